"""What the bytes mean, as data. Nothing here reads or judges."""
