"""What operators set, and what workers report."""
