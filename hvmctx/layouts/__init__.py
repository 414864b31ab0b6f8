"""What the code declares of formats, written down for other tools: a C header, a description for
Kaitai Struct, a pattern for ImHex."""
