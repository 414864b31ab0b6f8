"""Where bytes come from and where they go: sources, compression, copying, output that is whole
or not there. No format is known here."""
