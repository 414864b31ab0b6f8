"""A running Xen, through its own libraries."""
