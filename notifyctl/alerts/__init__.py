"""Reminders and alarms that nobody asked for."""
