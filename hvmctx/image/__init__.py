"""Floor 4: an opened image: what stands where (`index`, filled by `indexing`), the guest's
memory (`memory_map`), and what it means (`image`)."""
