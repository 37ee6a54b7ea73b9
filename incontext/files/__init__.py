"""Image and mask files in, masks and overlays out."""
