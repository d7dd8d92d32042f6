"""One-time codes by SMS: sending and verifying, one critical section a phone."""
