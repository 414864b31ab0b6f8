"""What Xen's loaders would do with bytes, as pure functions and tables of rules."""
