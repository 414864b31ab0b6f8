"""Floor 5: contexts and images as text, tables and JSON."""
