"""Every check of an installation, and the mends that are safe."""
