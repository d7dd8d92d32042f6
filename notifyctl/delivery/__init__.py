"""The life of an accepted message: claimed, sent, recorded."""
