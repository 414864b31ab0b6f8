"""Findings about an image, in three views. `views` is where to start."""
