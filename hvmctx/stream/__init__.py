"""Floor 2: the streams that carry a context, one format a module. Framing does no I/O."""
