"""Floor 2: what the bytes mean, as data. Nothing here reads or judges."""
