"""The main job from end to end, on a database and a sandbox of its own."""
