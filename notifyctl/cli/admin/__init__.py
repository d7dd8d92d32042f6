"""Commands that set up and run an installation."""
