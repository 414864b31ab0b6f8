"""The HVM save context, taken apart and put together. No opinions here."""
