"""What long runs need: checkpoints, several processes, the log."""
