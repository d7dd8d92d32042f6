"""What providers report later on."""
