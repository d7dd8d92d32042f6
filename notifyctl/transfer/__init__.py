"""The whole database in another place."""
