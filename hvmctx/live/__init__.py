"""A running Xen, through its own libraries: calls (`xen`), a guest to save (`domain`), what the
machine offers (`host`)."""
