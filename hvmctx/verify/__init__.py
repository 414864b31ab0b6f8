"""Findings about an image, in three views. `views` is where to start.

Called as a function, `hvmctx.verify(...)` is `hvmctx.verify.views.verify`."""
