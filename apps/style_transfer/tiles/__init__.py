"""Pictures too large for the memory: the same updates, tile by tile."""
