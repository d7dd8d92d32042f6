"""The daemon around delivery: signals, wake-up, one loop a channel."""
