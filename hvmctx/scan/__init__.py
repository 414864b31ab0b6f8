"""Many images: a row each, out of headers and context; what they are, and where they would not
restore."""
