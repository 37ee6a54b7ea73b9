"""Outputs: what can be written of a label map, one function for each format."""
