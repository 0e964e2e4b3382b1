"""Many machines: the tasks of a batch on a Ray cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from apps.style_transfer.allocation import keep_memory
from apps.style_transfer.batches.engines import Outcome, Task, Work, attempt


class Ray:
    """A Ray cluster: each picture is a task, done again elsewhere if its machine or its process dies.

    All machines must see the inputs and the output folder under the same paths, and have this package installed. A
    task that has died may have written its picture before it could say so; it is then not made again.

    Args:
        address: that of the cluster, "auto" for the one this machine belongs to; None is what RAY_ADDRESS says, or
            else a new one of this machine alone.
        cpus, gpus: what a task takes of its machine.
        retries: how often a task is done again.
    """

    def __init__(self, address: str | None = None, *, cpus: float = 1, gpus: float = 0, retries: int = 3) -> None:
        try:
            import ray  # noqa: F401
        except ImportError:
            raise ValueError("--engine ray needs Ray: pip install 'unroll-style[ray]'") from None
        self.address, self.cpus, self.gpus, self.retries = address, cpus, gpus, retries

    def run(self, work: Work, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Give the outcome of every task, as they come."""
        import ray

        started = not ray.is_initialized()
        if started:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ValueError(f"no Ray cluster to be had ({' '.join(str(error).split())})") from None
        try:
            yield from self._run(ray, work, tasks)
        finally:
            if started:
                ray.shutdown()

    def _run(self, ray: Any, work: Work, tasks: Sequence[Task]) -> Iterator[Outcome]:
        remote = ray.remote(_do).options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries)
        # In a list, or Ray would hand every task its own copy of the work, without what that has loaded.
        shared, since = [ray.put(work)], time.time()
        running: dict[Any, Task] = {}
        left = list(reversed(tasks))
        while left or running:
            # Twice what the cluster can do at once keeps it busy; a million waiting tasks would fill its memory.
            most = max(4, int(2 * ray.cluster_resources().get("CPU", 1) / max(self.cpus, 0.01)))
            while left and len(running) < most:
                task = left.pop()
                running[remote.remote(shared, _absolute(task), since)] = task
            for done in ray.wait(list(running), num_returns=1)[0]:
                task = running.pop(done)
                try:
                    yield replace(ray.get(done), task=task)
                except ray.exceptions.RayError as error:
                    yield Outcome(task, f"its process or machine died too often ({type(error).__name__})", 0.0)


def _absolute(task: Task) -> Task:
    """Return a task for a process that has another current folder."""
    sources = tuple(source.absolute() for source in task.sources)
    return replace(task, content=task.content.absolute(), output=task.output.absolute(), sources=sources)


@lru_cache(maxsize=1)
def _fetched(reference: Any) -> Work:
    import ray

    keep_memory()
    work: Work = ray.get(reference)
    return work


def _do(shared: list[Any], task: Task, since: float) -> Outcome:
    if task.output.exists() and task.output.stat().st_mtime >= since:
        return Outcome(task, None, 0.0)
    return attempt(_fetched(shared[0]), task)
