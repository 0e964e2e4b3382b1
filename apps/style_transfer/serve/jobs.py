"""A bounded queue of jobs and the one thread that does them.

A job is ``receiving`` while its upload comes in, then ``queued``, ``running``, and at last ``done``, ``failed`` or
``cancelled``. The first three hold one of the slots of :class:`Limits`; whatever ends a job frees its slot at once.
Each job has a folder of its own, mode 0700, in a private temporary one: what was uploaded goes when the job ends,
the rest when the job is forgotten, all of it with the server, or with the next one if it was killed.
"""

from __future__ import annotations

import logging
import math
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.style_transfer.serve.limits import Limits, RefusedError
from apps.style_transfer.serve.private import Private

log = logging.getLogger("apps.style_transfer")

LIVE = ("receiving", "queued", "running")


class CancelledError(Exception):
    """Raised by :meth:`Job.advance` in a job that nobody wants any more."""


@dataclass(eq=False)
class Job:
    """One job.

    Attributes:
        id: what it is asked for by; it cannot be guessed.
        folder: its files: ``uploads`` until it ends, pictures of the steps and the result until it is forgotten.
        order: what is to be done, as the worker understands it.
        state: see the module.
        step, steps: it has finished ``step`` of ``steps``; -1 before the first picture.
        message: why it failed, one line.
        result: what the worker returned.
        seconds: what the work took.
    """

    id: str
    folder: Path
    order: Any = None
    state: str = "receiving"
    step: int = -1
    steps: int = 0
    message: str = ""
    result: Any = None
    seconds: float = 0.0
    touched: float = field(default_factory=time.monotonic)

    @property
    def uploads(self) -> Path:
        """The folder of what was uploaded."""
        return self.folder / "uploads"

    @property
    def live(self) -> bool:
        """Whether it holds a slot."""
        return self.state in LIVE

    def advance(self, step: int, steps: int) -> None:
        """Say how far the work is; raises :class:`CancelledError` where it is not wanted any more."""
        if self.state == "cancelled":
            raise CancelledError
        self.step, self.steps = step, steps


class Jobs:
    """The queue. ``work(job)`` runs in a thread of its own, one job at a time; its ValueErrors are for the user."""

    def __init__(self, work: Callable[[Job], Any], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._private = Private()
        self.folder = self._private.folder
        self._work = work
        self._jobs: dict[str, Job] = {}
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._usual = 5.0
        self._worker = threading.Thread(target=self._run, name="restyle", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Cancel every job, wait a moment for the one at work, and remove the folder."""
        with self._changed:
            self._closed = True
            for job in list(self._jobs.values()):
                self._end(job, "cancelled")
            self._changed.notify_all()
        self._worker.join(timeout=10)
        self._private.close()

    @property
    def waiting(self) -> int:
        """How many slots are held."""
        with self._changed:
            self._sweep()
            return sum(job.live for job in self._jobs.values())

    def ahead(self, job: Job) -> int:
        """Return how many jobs come before one that is queued."""
        with self._changed:
            order = [other for other in self._jobs.values() if other.state in ("queued", "running")]
            return order.index(job) if job in order else 0

    def reserve(self) -> Job:
        """Take a slot for an upload; raises :class:`RefusedError` with 503 where none is free."""
        with self._changed:
            if self._closed or self.waiting >= self.limits.queue:
                raise RefusedError(
                    503,
                    f"{self.limits.queue} pictures are waiting already: try again in a moment",
                    retry_after=max(1, math.ceil(self._usual)),
                )
            name = secrets.token_urlsafe(16)
            job = Job(name, self.folder / name)
            job.uploads.mkdir(mode=0o700, parents=True)
            job.folder.chmod(0o700)
            self._jobs[name] = job
            return job

    def submit(self, job: Job, order: Any) -> None:
        """Queue a job whose upload is complete."""
        with self._changed:
            if job.state != "receiving":
                raise RefusedError(503, "the server is closing", retry_after=10)
            job.order, job.state, job.touched = order, "queued", time.monotonic()
            # It waits from now on, however long its upload took.
            self._jobs[job.id] = self._jobs.pop(job.id)
            self._changed.notify_all()

    def get(self, name: str) -> Job:
        """Return a job, and note that somebody asked for it; raises :class:`RefusedError` with 404."""
        with self._changed:
            self._sweep()
            job = self._jobs.get(name)
            if job is None:
                raise RefusedError(404, "there is no such job: it was collected, or nobody asked for it for too long")
            if job.live:
                job.touched = time.monotonic()
            return job

    def drop(self, name: str) -> Job:
        """Cancel a job that is not finished, forget one that is."""
        with self._changed:
            job = self.get(name)
            self.abandon(job)
            return job

    def abandon(self, job: Job) -> None:
        """Do the same with a job at hand, known any more or not."""
        with self._changed:
            if job.live:
                self._end(job, "cancelled")
            else:
                self._forget(job)

    def _end(self, job: Job, state: str, message: str = "") -> None:
        if not job.live:
            return
        working = job.state == "running"
        job.state, job.message, job.touched = state, message, time.monotonic()
        if state != "cancelled":
            shutil.rmtree(job.uploads, ignore_errors=True)
        elif not working:
            # Else the worker still writes there, and removes it.
            shutil.rmtree(job.folder, ignore_errors=True)
        finished = [other for other in self._jobs.values() if not other.live]
        for other in finished[: max(0, len(finished) - self.limits.kept)]:
            self._forget(other)

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _sweep(self) -> None:
        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job.state in ("queued", "running") and now - job.touched > self.limits.patience_seconds:
                self._end(job, "cancelled")
            elif not job.live and now - job.touched > self.limits.keep_seconds:
                self._forget(job)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._closed:
                self._sweep()
                job = next((job for job in self._jobs.values() if job.state == "queued"), None)
                if job is not None:
                    job.state = "running"
                    return job
                self._changed.wait(timeout=1)
            return None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            began = time.monotonic()
            state, message = "done", ""
            try:
                job.result = self._work(job)
            except CancelledError:
                state = "cancelled"
            except (ValueError, OSError, MemoryError) as error:
                state, message = "failed", " ".join(str(error).split()) or "out of memory: choose a smaller size"
            except Exception:
                log.exception("a job failed")
                state, message = "failed", "the program failed on this picture: its log says how"
            with self._changed:
                job.seconds = time.monotonic() - began
                if job.state == "cancelled":
                    shutil.rmtree(job.folder, ignore_errors=True)
                else:
                    self._end(job, state, message)
                    self._usual = 0.5 * (self._usual + job.seconds)
