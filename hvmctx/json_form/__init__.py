"""The lossless JSON document of contexts and images, its checks, its schema."""
