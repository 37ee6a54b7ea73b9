"""Data sets as records: a reader for each official layout, one builder for all."""
