"""What the C library does with memory that is given back: for programs, which may decide it for the whole process.

A step allocates a block for every feature map and gives it back. From 32 MB on glibc maps each block anew and unmaps
it, and the kernel clears its pages every time, which takes as long as the convolutions themselves: beyond half a
megapixel on a CPU, steps take half the time where blocks are kept for the next one. (Measured on two cores: 5.9 and
2.9 seconds a megapixel.)
"""

from __future__ import annotations

import ctypes
import os
import platform

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_memory() -> bool:
    """Have the process keep what is given back, for its next allocations; return whether it does.

    It is the process's for good, until :func:`return_memory`. Call it before any thread is started. False, and nothing
    is done, where the C library is not glibc, or where the environment already says what it is to do (``MALLOC_...``).
    """
    libc = _glibc()
    if libc is None or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    # All blocks from the one heap, which does not shrink: other threads' heaps have no room for large blocks.
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_ARENA_MAX: 1}
    return all(libc.mallopt(name, value) for name, value in settings.items())


def return_memory() -> None:
    """Give back to the system what the process does not use."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
