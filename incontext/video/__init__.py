"""Video: frames in, marked things followed through them."""
