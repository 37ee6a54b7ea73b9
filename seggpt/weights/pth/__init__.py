"""Reading PyTorch's files without running anything that they hold."""
