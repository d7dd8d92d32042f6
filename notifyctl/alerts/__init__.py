"""Reminders and alarms that nobody asked for: expiry, service levels, failure spikes."""
