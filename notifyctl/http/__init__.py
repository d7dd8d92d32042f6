"""The HTTP shim: one thin room over the same calls that the command line makes."""
