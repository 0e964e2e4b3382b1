"""Peak memory of a stretch of the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Peak:
    """``gigabytes`` (1e9 bytes) at the peak, once the block has ended; None where the system does not tell."""

    gigabytes: float | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory of the block: the device's for CUDA, else the process's resident set (Linux)."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.gigabytes = torch.cuda.max_memory_allocated(device) / 1e9
        return
    resettable = _reset()
    yield peak
    if resettable:
        peak.gigabytes = _high_water() * 1024 / 1e9


def _reset() -> bool:
    """Lower the high-water mark of the resident set to what it is now, see proc(5), clear_refs."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
