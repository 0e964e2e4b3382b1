"""Where to compute, and how it says that there is no room."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 by itself: where a CPU does not, PyTorch emulates it, slowly."""
    if device.type == "cpu":
        return bool({"avx512_bf16", "amx_bf16", "sve_bf16", "bf16"} & {n for n, has in _cpu().items() if has is True})
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu() -> Mapping[str, object]:
    # PyTorch 2.10 and later have it; to an older one every CPU is one without.
    capabilities: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    return capabilities()


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out: Python's, or that of an allocator of PyTorch's."""
    # The CPU's allocator raises a RuntimeError with the first words; those of CUDA and MPS have the second.
    words = " ".join(str(error).split())
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        said in words for said in ("can't allocate memory", "out of memory")
    )
