"""Postmark's API, as far as it is used."""
