"""Stripe's events become state and mails."""
