"""Floor 3: the streams that carry a context, one format a module. Framing (`reader`,
`writer`) does no I/O; `legacy` and `elf`, whose formats jump about, read a source."""
