"""Tables, enums and small value types. No queries, no I/O."""
