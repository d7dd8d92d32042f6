"""Stripe's events once more: from the store, a file, or Stripe itself."""
