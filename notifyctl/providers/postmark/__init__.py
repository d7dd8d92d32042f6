"""Email through Postmark."""
