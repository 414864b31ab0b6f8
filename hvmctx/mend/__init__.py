"""What helps somebody whose guest is not restored: what a log says of it, and an image that is
restored. `repair` and `diagnose` are where to start."""
