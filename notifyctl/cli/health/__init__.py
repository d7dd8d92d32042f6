"""Commands that say how the traffic is."""
