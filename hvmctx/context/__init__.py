"""Floor 2: the HVM save context, taken apart and put together. No opinions here."""
