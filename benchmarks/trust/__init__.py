"""Whether the style-transfer app can be trusted: one module for each kind of harm, see ``benchmarks/trust.py``."""
