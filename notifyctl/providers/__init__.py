"""The outside world behind one contract and one registry."""
