"""Pictures and clips as files: formats, depths, colour profiles, notes."""
