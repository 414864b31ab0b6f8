"""The streams that carry a context, one format a module. Framing (`reader`, `writer`) does no
I/O; `legacy` and `elf`, whose formats are not read in order, read a source."""
