"""Many pictures: a manifest of what is done, and engines that do it."""
