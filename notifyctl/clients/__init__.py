"""Whom we write to, and who must not be written to."""
