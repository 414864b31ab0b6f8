"""Floor 4: images made from images, touching only what an edit must."""
