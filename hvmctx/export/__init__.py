"""A guest's memory for other programs: raw files, ELF cores."""
