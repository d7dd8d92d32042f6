"""The outside world: our words to the providers and back. Knows no database."""
