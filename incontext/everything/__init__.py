"""Everything mode: all things in an image without a prompt, as SAM's mask generator."""
