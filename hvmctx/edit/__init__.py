"""Floor 5: images made from images, touching only what an edit must."""
