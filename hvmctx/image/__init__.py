"""An opened image: what is where (`index`, filled by `indexing`), the guest's memory
(`memory_map`), and what it means (`image`)."""
