"""Refuse what memory cannot hold before it is begun, rather than be ended half-way."""

from __future__ import annotations

import math
import os
from pathlib import Path


def require_memory(size: float, what: str, remedy: str) -> None:
    """Raise MemoryError, in one line, where ``size`` bytes are more than this machine has to give."""
    available = available_memory()
    if size > available:
        raise MemoryError(
            f"{what} needs about {size / 1e9:.3g} GB of memory, {available / 1e9:.3g} GB are available: {remedy}"
        )


def available_memory() -> float:
    """Return the bytes that can still be had, as far as the system says so: infinity where it does not."""
    found = math.inf
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            found = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(found, float(Path("/sys/fs/cgroup/memory.max").read_text()))  # a container's limit, or "max"
    except (OSError, ValueError):
        return found
