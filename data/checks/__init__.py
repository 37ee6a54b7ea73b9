"""Programs that measure the pipeline: speed of each stage, memory by number of pictures."""
