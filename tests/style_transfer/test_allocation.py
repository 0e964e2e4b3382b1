"""Memory that a process keeps: told by the pages that the kernel has to bring, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from apps.style_transfer.allocation import keep_memory, return_memory

BLOCK = 1 << 27
SCRIPT = f"""
import ctypes, resource, threading
from apps.style_transfer.allocation import keep_memory, return_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def use():
    block = libc.malloc({BLOCK})
    ctypes.memset(block, 1, {BLOCK})
    libc.free(block)

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())

print(keep_memory())
before = resident()
use()
pages()
thread = threading.Thread(target=pages)
thread.start()
thread.join()
print(resident() - before)
return_memory()
print(resident() - before)
"""


def told(**environment: str) -> tuple[str, int, int, int, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, *numbers = ended.stdout.split()
    again, in_a_thread, before, after = map(int, numbers)
    return kept, again, in_a_thread, before, after


def test_another_c_library_is_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_memory()
    return_memory()


def test_what_is_kept_is_used_again_and_given_back_when_asked() -> None:
    kept, again, in_a_thread, before, after = told()
    assert kept == "True"
    assert max(again, in_a_thread) < BLOCK / 16
    assert before > 0.9 * BLOCK
    assert after < BLOCK / 16


def test_the_environment_has_its_say() -> None:
    kept, again, _, before, _ = told(MALLOC_MMAP_THRESHOLD_="131072")
    assert kept == "False"
    assert again > 0.9 * BLOCK
    assert before < BLOCK / 16
