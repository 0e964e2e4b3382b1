"""Where the tasks of a batch are done: in this process, in several, or (:mod:`ray_engine`) on several machines."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from apps.style_transfer.allocation import keep_memory
from apps.style_transfer.devices import out_of_memory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One picture to make: of which photograph, in which style, where to, and the files that the style is made of."""

    content: Path
    style: str
    output: Path
    sources: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a task: ``error`` is one line, None where the picture was made."""

    task: Task
    error: str | None
    seconds: float


Work = Callable[[Task], None]


class Engine(Protocol):
    """Does tasks."""

    def run(self, work: Work, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Give the outcome of every task, as they come."""


def attempt(work: Work, task: Task) -> Outcome:
    """Do a task; whatever goes wrong becomes one line."""
    began, error = time.perf_counter(), None
    try:
        work(task)
    except Exception as fault:
        log.debug("%s", task.content, exc_info=True)
        error = describe(fault)
    return Outcome(task, error, time.perf_counter() - began)


def describe(fault: BaseException) -> str:
    """Return an error in one line; for what the user cannot mend, with its kind."""
    text = " ".join(str(fault).split())
    if out_of_memory(fault):
        return "out of memory: make the pictures smaller with --size, or run fewer --jobs"
    if isinstance(fault, OSError) and fault.filename and fault.strerror:
        text = f"{fault.filename}: {fault.strerror}"
    elif not isinstance(fault, ValueError | OSError):
        text = f"{type(fault).__name__}: {text}"
    return text if len(text) <= 400 else text[:397] + "..."


class Local:
    """This machine: with one job this process, else so many processes, each with its own copy of the work.

    A process that dies (the system takes the memory back, a decoder crashes) takes down no more than its task: what
    was being done then is done again, one by one, and what kills its process twice has failed.
    """

    def __init__(self, jobs: int = 1) -> None:
        if jobs < 1:
            raise ValueError(f"--jobs must be at least 1, got {jobs}")
        self.jobs = jobs

    def run(self, work: Work, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Give the outcome of every task, as they come."""
        if self.jobs == 1 or len(tasks) < 2:
            for task in tasks:
                yield attempt(work, task)
            return
        left = list(reversed(tasks))
        while left:
            suspects: list[Task] = []
            yield from self._together(work, left, suspects)
            for task in suspects:
                yield from self._alone(work, task)

    def _together(self, work: Work, left: list[Task], suspects: list[Task]) -> Iterator[Outcome]:
        """Do tasks from the end of a list until none is left or a process dies; what was under way then is suspect."""
        running: dict[Future[Outcome], Task] = {}
        pool = self._pool(work, min(self.jobs, len(left)))
        try:
            while left or running:
                while left and len(running) < self.jobs:
                    running[pool.submit(_do, left[-1])] = left[-1]
                    left.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    del running[future]
                    yield outcome
        except BrokenProcessPool:
            suspects += running.values()
        finally:
            pool.shutdown(cancel_futures=True)

    def _alone(self, work: Work, task: Task) -> Iterator[Outcome]:
        began = time.perf_counter()
        with self._pool(work, 1) as pool:
            try:
                yield pool.submit(_do, task).result()
            except BrokenProcessPool:
                seconds = time.perf_counter() - began
                yield Outcome(task, "its process died twice: of too little memory, or of a fault in a decoder", seconds)

    def _pool(self, work: Work, jobs: int) -> ProcessPoolExecutor:
        # Not forked: threads of PyTorch do not survive that.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(work,))


_work: Work | None = None  # that of this process, if it is one of a pool


def _start(work: Work) -> None:
    global _work
    _work = work
    keep_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, killed even, lest it works on unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(task: Task) -> Outcome:
    assert _work is not None
    return attempt(_work, task)
