"""The figures, what is wrong in words, and their SQL."""
