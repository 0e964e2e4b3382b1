"""The commands of the command line: one module each, with its ``HELP``, ``add(parser)`` and ``run(options)``."""
