"""Commands about Stripe's events."""
