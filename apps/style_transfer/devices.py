"""Where to compute, and how it says that there is no room."""

from __future__ import annotations

import torch


def choose_device(name: str) -> torch.device:
    """Return the device of a name, "auto" the fastest that is there; ValueError where there is none."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if available[d]))
    if name not in available:
        raise ValueError(f"unknown device {name!r}: choose auto, {', '.join(available)}")
    if not available[name]:
        raise ValueError(f"there is no {name} device here: leave --device out, or say --device cpu")
    return torch.device(name)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out: Python's, or that of an allocator of PyTorch's."""
    # The CPU's allocator raises a RuntimeError with the first words; those of CUDA and MPS have the second.
    words = " ".join(str(error).split())
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        said in words for said in ("can't allocate memory", "out of memory")
    )
