"""The record of a folder of results: a line of JSON for each picture made, found or failed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apps.style_transfer.batches.engines import Task
from apps.style_transfer.files.raster import ImageError
from apps.style_transfer.files.writing import lock

MANIFEST = "unroll-style.jsonl"


def fingerprint(task: Task, options: str) -> str:
    """Return a digest of the options and of the size and time of each input file."""
    digest = hashlib.sha256(options.encode())
    for path in (task.content, *task.sources):
        try:
            about = path.stat()
            digest.update(f"\0{path.name}\0{about.st_size}\0{about.st_mtime_ns}".encode())
        except OSError:
            digest.update(f"\0{path.name}\0".encode())
    return digest.hexdigest()[:32]


class Manifest:
    """The record, open for one run at a time.

    Attributes:
        made: the fingerprint of each picture that was made or found, by file name.
    """

    def __init__(self, handle: int, made: dict[str, str], torn: bool) -> None:
        self._handle, self.made, self._torn = handle, made, torn

    @staticmethod
    def read(path: Path) -> Iterator[tuple[str, str]]:
        """Give the name and the fingerprint of each picture that was made; lines cut short are passed over."""
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        entry = json.loads(line)
                        if entry["status"] in ("done", "found"):
                            yield str(entry["output"]), str(entry["fingerprint"])
                    except (ValueError, KeyError, TypeError):
                        continue
        except OSError:
            return

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Manifest]:
        """Open a record, begin it if there is none.

        Raises:
            ImageError: where it cannot be written, or another run has it open.
        """
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise ImageError(f"cannot write into {path.parent} ({error.strerror}): choose another folder") from None
        try:
            if not lock(handle):
                raise ImageError(f"another run is at work in {path.parent}: wait for it, or choose another folder")
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            yield cls(handle, dict(cls.read(path)), torn)
        finally:
            os.close(handle)

    def add(self, task: Task, status: str, options: str, *, seconds: float | None = None, error: str = "") -> None:
        """Append a line, by one call of the system.

        Raises:
            ImageError: where there is no room for it.
        """
        entry: dict[str, object] = {
            "output": task.output.name,
            "status": status,
            "content": str(task.content),
            "style": task.style,
            "fingerprint": fingerprint(task, options),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        if seconds is not None:
            entry["seconds"] = round(seconds, 3)
        if error:
            entry["error"] = error
        line = ("\n" if self._torn else "") + json.dumps(entry) + "\n"
        try:
            os.write(self._handle, line.encode())
        except OSError as fault:
            raise ImageError(f"cannot write the record {MANIFEST} ({fault.strerror}): free some space") from None
        self._torn = False
        if status != "failed":
            self.made[task.output.name] = str(entry["fingerprint"])
