"""The single pipe: gates, decision, message rows, explanation."""
