"""Floor 4: contexts and images as text, tables and JSON."""
