"""One-time codes: one critical section a phone."""
