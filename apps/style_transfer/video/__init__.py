"""Video: frames restyled one after another, each held to the one before where the motion carries it."""
