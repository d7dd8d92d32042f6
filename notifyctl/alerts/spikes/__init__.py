"""The failure-spike monitor."""
