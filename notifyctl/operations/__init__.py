"""What operators set and workers report."""
