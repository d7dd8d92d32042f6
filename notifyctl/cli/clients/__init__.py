"""Commands about whom we write to."""
