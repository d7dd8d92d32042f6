"""The only place with select, insert and update. Functions take a Session and never commit."""
