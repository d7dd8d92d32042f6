"""Pages for people: server-rendered, signed in to with an admin key, and usable without scripts."""
