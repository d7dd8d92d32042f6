"""What the providers would report later on."""
