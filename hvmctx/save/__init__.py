"""Saving: `engine.save` drives a guest (`guests`, `simulated`) through what Xen's own save
does, into a `sink`; `libxl.LibxlSave` wraps such a stream; `build` makes an image of parts."""
