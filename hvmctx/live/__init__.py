"""Floor 5: a running Xen, through its own libraries."""
