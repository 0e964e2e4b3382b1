"""SIGTERM and SIGINT as a flag."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from unroll._training._progress import Progress


@contextmanager
def interruptible(at: Progress) -> Iterator[None]:
    """Set ``at.interrupted`` where SIGTERM or SIGINT comes in the block; a second SIGINT does what it did before.

    Only the main thread can receive signals; in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        at.interrupted = True
        if number == signal.SIGINT:
            signal.signal(number, old[signal.SIGINT])

    for number in old:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
