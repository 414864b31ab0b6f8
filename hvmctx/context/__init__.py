"""Floor 3: the HVM save context, taken apart and put together. No opinions here."""
