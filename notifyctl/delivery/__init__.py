"""The life of an accepted message: claim, send, record."""
