"""One pipe for a company's notifications: decided on the server, logged, sent once, explained afterwards."""

__version__ = "0.1.0"
