"""Floor 2: where bytes come from and where they go: sources, compression, copying, output
that is whole or not there. Knows no format."""
