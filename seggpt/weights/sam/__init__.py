"""Names, shapes and configs of published SAM checkpoints and their relatives."""
