"""What is removed: by age, and on request."""
