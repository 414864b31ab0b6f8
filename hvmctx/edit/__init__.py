"""Images made from images, changing only what an edit must."""
