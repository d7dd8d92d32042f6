"""A store that has gone back in time: what it has forgotten is asked of those who know."""
