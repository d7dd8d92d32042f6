"""The tables, as rows with types."""
