"""What the rows share: the seed, a folder, pictures, processes that are watched, and how faults are told."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image, ImageChops

from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE

HANG = 30.0
PROGRAM = (sys.executable, "-m", "apps.style_transfer")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Bench:
    """One run: what is drawn follows from the seed, what is made lies in the folder; ``quick`` takes fewer cases."""

    seed: int
    folder: Path
    quick: bool = False

    def generator(self, row: str) -> random.Random:
        """Return the generator of a row, the same whichever rows are run beside it."""
        return random.Random(f"{self.seed}/{row}")

    def count(self, whole: int, quick: int) -> int:
        return quick if self.quick else whole

    def place(self, row: str) -> Path:
        """Return a new folder for a row."""
        return Path(tempfile.mkdtemp(prefix=f"{row}-", dir=self.folder))


def told(row: str, faults: Iterable[str]) -> float:
    """Say each fault on standard error, and return how many there are."""
    found = 0
    for fault in faults:
        sys.stderr.write(f"  {row}: {fault}\n")
        sys.stderr.flush()
        found += 1
    return float(found)


def photograph(path: Path, width: int, height: int, *, turn: int = 0) -> Path:
    """Write the shipped photograph at a size; ``turn`` rolls it, so that no two are the same."""
    with Image.open(EXAMPLE_CONTENT) as image:
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    ImageChops.offset(small, turn % width, 0).save(path)
    return path


def painting(path: Path, side: int = 96) -> Path:
    with Image.open(EXAMPLE_STYLE) as image:
        image.convert("RGB").resize((side, side)).save(path)
    return path


def not_whole(path: Path) -> str | None:
    """Return what is wrong with a picture, decoded by Pillow to its end; None if it is whole."""
    try:
        with Image.open(path) as image:
            for frame in range(getattr(image, "n_frames", 1)):
                image.seek(frame)
                image.load()
    except Exception as error:
        return f"{path.name} is not whole ({error})"
    return None


# How a fault of the program, and not of the file, begins where it is told in one line.
_FAULT = re.compile(r"(^|[:,] )(\w+(Error|Exception|Warning|Interrupt)|the program failed|the server failed)\b")


def unclear(line: str) -> str | None:
    """Return what is wrong with a line that says what is wrong; None if it is one, clear and short."""
    if "\n" in line.strip() or not line.strip():
        return f"{len(line.splitlines())} lines instead of one: {line[:300]!r}"
    if _FAULT.search(line) or "Traceback" in line:
        return f"not clear: {line[:300]!r}"
    return f"{len(line)} characters long: {line[:200]!r}..." if len(line) > 700 else None


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}", "CUDA_VISIBLE_DEVICES": "", **more}


@dataclass(frozen=True)
class Ended:
    """How a program ended: ``status`` None where it hung and was killed, ``peak`` in bytes."""

    status: int | None
    out: str
    err: str
    seconds: float
    peak: int

    def refusal(self, statuses: Sequence[int] = (2,)) -> str | None:
        """Return what is wrong with it as a refusal in one line; None if nothing is."""
        if self.status is None:
            return f"hung for {self.seconds:.0f} s"
        if self.status not in statuses:
            return f"exit status {self.status}: {self.err[-300:]!r}"
        said = [line for line in self.err.splitlines() if line.startswith(("unroll-style", "failed:"))]
        return unclear("\n".join(said))


def peak_of(pid: int) -> int:
    """Return the peak of the resident memory of a process, in bytes; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def program(*arguments: object, limit: float = 120, **more: str) -> Ended:
    """Run the command line in a process of its own, and watch it."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [*PROGRAM, *map(str, arguments)], stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=environment(**more)
        )
        peak, status = 0, None
        while status is None and time.perf_counter() - began < limit:
            peak = max(peak, peak_of(process.pid))
            try:
                status = process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        process.wait()
        seconds = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        return Ended(status, out.read(), err.read(), seconds, peak)


@dataclass
class Server:
    """A server of the page in a process of its own: its address, its log, where its folders are."""

    process: subprocess.Popen[str]
    address: str
    temporary: Path
    log: list[str]

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    @property
    def peak(self) -> int:
        return peak_of(self.process.pid)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def client(self, seconds: float = HANG) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=seconds)

    def waits_for(self, jobs: int, seconds: float = 30) -> bool:
        """Return whether so many slots are held before long."""
        with self.client() as client:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if client.get("/api/v1/health").json()["jobs"] == jobs:
                    return True
                time.sleep(0.2)
        return False


@contextmanager
def serving(folder: Path, *arguments: object, **more: str) -> Iterator[Server]:
    """Run a server whose temporary folder is within a folder; it is ended at the end, politely."""
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**{"TMPDIR": str(temporary), **more}),
    )
    assert process.stderr is not None
    log: list[str] = []
    address = ""
    for line in process.stderr:
        log.append(line)
        if found := re.search(r"http://\S+", line):
            address = found[0]
            break
    if not address:
        raise RuntimeError(f"the server does not start: {''.join(log)[-500:]}")
    reader = threading.Thread(target=lambda: log.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        yield Server(process, address, temporary, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(5)


def tell(port: int, data: bytes, *, seconds: float = HANG) -> bytes:
    """Send bytes to a server, and return all that it says until it hangs up or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as talk:
        talk.sendall(data)
        said = b""
        try:
            while part := talk.recv(65_536):
                said += part
        except OSError:
            pass
        return said
