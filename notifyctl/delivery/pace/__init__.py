"""How fast a channel may go, and whether it may go at all."""
