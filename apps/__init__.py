"""Applications of the toolkit."""
