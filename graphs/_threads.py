"""Work shared among plain threads, with BLAS held to one in each."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Result = TypeVar("Result")


def shared(action: Callable[[int, int], Result], count: int, least: int = 1) -> list[Result]:
    """Return action(start, stop) for consecutive parts of range(count), of ``least`` each, one for each torch thread.

    Plain threads, and not numba's or OpenMP's: those spin while they wait, which starves a busy machine. What they run
    has to let go of Python's lock, as compiled kernels and products of large matrices do.
    """
    threads = max(1, min(torch.get_num_threads(), count // least))
    bounds = [count * i // threads for i in range(threads + 1)]
    others = [_pool(os.getpid(), threads - 1).submit(action, *ends) for ends in pairwise(bounds[1:])]
    return [action(0, bounds[1]), *(other.result() for other in others)]


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process: those of its parent do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="graphs")


def one_blas_thread() -> AbstractContextManager[object]:
    """Return a context in which the BLAS of numpy and scipy runs one thread: its own spin while they wait.

    For products of 16 vectors that is most of the time: by two such threads :func:`graphs.eigenbasis` took twice as
    long on two idle cores as by one, and six times where other work wanted a core. The setting is one of the process,
    so other Python threads have it too meanwhile, and is put back at the end or where an error leaves. Of several
    threads at once the first has the say, which is threadpoolctl's rule.
    """
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
