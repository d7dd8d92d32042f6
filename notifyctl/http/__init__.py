"""HTTP: the API, what providers call, and the page."""
