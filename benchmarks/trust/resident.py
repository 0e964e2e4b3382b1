"""The command line kept in one process, for PyTorch takes seconds to come: ``python -m trust.resident``.

Command lines come in as JSON, one a line; each is answered with a line. ``fork`` runs each in a child, of which the
number is told first, so that it can be killed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.style_transfer.allocation import keep_memory, return_memory
from trust.bench import HANG, Ended, environment, peak_of

_STARTING = 120.0


class Resident:
    """The process that does it, begun again where it has crashed or was killed because it hung."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, *arguments: object, limit: float = 2 * HANG) -> Ended:
        """Run a command line; the status is None where it hung, negative where the process died."""
        process = self._ready()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        process.stdin.flush()
        began = time.perf_counter()
        answered = self._selector.select(limit)
        line = process.stdout.readline() if answered else ""
        seconds, peak = time.perf_counter() - began, peak_of(process.pid)
        if line:
            answer = json.loads(line)
            return Ended(answer["status"], "", answer["said"], answer["seconds"], answer["peak"])
        process.kill()
        status = process.wait() if answered else None
        self._errors.seek(0)
        said = self._errors.read()[-500:]
        self.close()
        return Ended(status, "", said, seconds, peak)

    def _ready(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process lives
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trust.resident"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._errors, text=True, env=environment(),
            )  # fmt: skip
            assert self._process.stdout is not None
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._process.stdout, selectors.EVENT_READ)
            if not self._selector.select(_STARTING) or self._process.stdout.readline() != "ready\n":
                raise RuntimeError("the command line does not start")
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout, self._errors):
                with contextlib.suppress(OSError):
                    assert stream is not None
                    stream.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Resident:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Forked:
    """A command line that is being run in a child of the process."""

    pid: int
    _process: subprocess.Popen[str]

    def wait(self) -> int:
        """Return the status: negative, the signal that ended it."""
        assert self._process.stdout is not None
        return os.waitstatus_to_exitcode(int(self._process.stdout.readline()))


class Forking:
    """The process that runs each command line in a child of its own; what they say goes to a file."""

    def __init__(self, log: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trust.resident", "fork"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log.open("w"), text=True, env=environment(OMP_NUM_THREADS="1"),
        )  # fmt: skip
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def start(self, *arguments: object) -> Forked:
        """Begin one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()), self._process)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def _status_of(arguments: list[str]) -> int:
    from apps.style_transfer.cli import run

    try:
        return run(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def _answer(arguments: list[str]) -> dict[str, Any]:
    return_memory()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak of each by itself
    said, began = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        status = _status_of(arguments)
    seconds = time.perf_counter() - began
    return {"status": status, "said": said.getvalue(), "seconds": seconds, "peak": peak_of(os.getpid())}


def main(fork: bool) -> None:
    import apps.style_transfer.cli  # noqa: F401

    keep_memory()

    def say(what: object) -> None:
        sys.__stdout__.write(f"{what}\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]

    say("ready")
    for line in sys.stdin:
        if not fork:
            say(json.dumps(_answer(json.loads(line))))
        elif (pid := os.fork()) == 0:
            os._exit(_status_of(json.loads(line)))
        else:
            say(pid)
            say(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main(sys.argv[1:] == ["fork"])
