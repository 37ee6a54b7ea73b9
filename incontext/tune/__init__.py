"""Learn a prompt for a task: the model stays as it is, what it is shown is what learns."""
