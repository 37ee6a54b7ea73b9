"""SAM and its relatives: image encoders under SAM's heads."""
