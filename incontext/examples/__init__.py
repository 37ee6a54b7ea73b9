"""Examples: encoded once as a context, then applied to any number of images."""
