"""Stripe's webhooks: what they change, and which mails they send."""
