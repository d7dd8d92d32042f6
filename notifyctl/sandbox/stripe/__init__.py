"""Stripe's API and its events, as far as they are used."""
