"""The parts of :func:`unroll.fit`, one idea each."""
