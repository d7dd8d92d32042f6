"""The daemon: a loop a channel, and what runs beside it."""
