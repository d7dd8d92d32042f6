"""The command line: it parses, calls one function of a capability, and prints."""
