"""Images made from images, changing only what an edit must. `editor` is where to start.

Called as a function, `hvmctx.edit(image)` is `hvmctx.edit.editor.edit`."""
