"""SIGKILL at random moments of a folder run, then the run again: nothing half-written, lost, done twice, or touched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import tifffile
from bars import AT_MOST, Bar
from PIL import Image

from trust.bench import Bench, not_whole, painting, photograph, program, told
from trust.resident import Forking

RECORD = "unroll-style.jsonl"


def originals(folder: Path) -> Path:
    """Write pictures of several kinds, a clip, and one that is restyled in tiles."""
    folder.mkdir()
    for i, suffix in enumerate(["jpg", "png", "webp", "tif", "bmp", "jpg"]):
        photograph(folder / f"photo{i}.{suffix}", 96 + 8 * i, 64, turn=40 * i)
    with Image.open(folder / "photo0.jpg") as image:
        deep = np.asarray(image).astype(np.uint16) * 257
        tifffile.imwrite(folder / "deep.tif", deep, photometric="rgb", metadata=None)
        turned = [image.rotate(30 * i) for i in range(3)]
        turned[0].save(folder / "clip.gif", save_all=True, append_images=turned[1:], duration=50)
    photograph(folder / "large.png", 480, 360)
    return folder


def hashes(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the hash and the time of each file."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
    }


def kills(b: Bench) -> Iterator[str]:
    """Kill it thirty times, each time wherever it is, and tell what is wrong then."""
    generator, folder = b.generator("kill"), b.place("kill")
    shots, out, style = originals(folder / "shots"), folder / "out", painting(folder / "painting.png")
    before = hashes(shots)
    expected = {f"{path.stem}_stylized_painting{path.suffix}" for path in shots.iterdir()}
    command = ["-c", shots, "-s", style, "-o", out, "--skip-existing", "--memory", "0.12", "--device", "cpu"]
    forking = Forking(folder / "log")
    try:
        began = time.perf_counter()
        if (status := forking.start(*command).wait()) != 0:
            yield f"the whole run ends with {status}: {(folder / 'log').read_text()[-400:]}"
            return
        whole = time.perf_counter() - began
        shutil.rmtree(out)
        known: dict[str, int] = {}
        for i in range(b.count(30, 4)):
            run = forking.start(*command)
            # A third of the moments are early: when the last run is found, and what it left is cleared.
            time.sleep(generator.uniform(0, whole if generator.random() < 2 / 3 else 0.2 * whole))
            with suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGKILL)
            status = run.wait()
            if status not in (-signal.SIGKILL, 0):
                yield f"run {i} ends with {status}: {(folder / 'log').read_text()[-400:]}"
            found = {path.name: path for path in out.glob("[!.]*")} if out.exists() else {}
            for name, path in found.items():
                if name != RECORD and name not in expected:
                    yield f"run {i} has left {name}"
                elif name != RECORD and (wrong := not_whole(path)):
                    yield f"run {i}: {wrong}"
            for name, at in known.items():
                if name not in found or found[name].stat().st_mtime_ns != at:
                    yield f"run {i} has lost or done again {name}"
            known = {name: path.stat().st_mtime_ns for name, path in found.items() if name != RECORD}
            if status == 0:
                yield from complete(out, expected, f"run {i}")
                shutil.rmtree(out)
                known = {}
    finally:
        forking.close()
    ended = program(*command, limit=300)
    if ended.status != 0:
        yield f"the last run ends with {ended.status}: {ended.err[-300:]}"
    yield from complete(out, expected, "the last run")
    if hashes(shots) != before:
        yield "the originals were touched"


def complete(out: Path, expected: set[str], run: str) -> Iterator[str]:
    """Tell what is wrong with a folder after a run that has ended by itself."""
    there = {path.name for path in out.iterdir()}
    if there != expected | {RECORD}:
        yield f"after {run}: lacks {sorted(expected - there)}, has besides {sorted(there - expected - {RECORD})}"
    for name in expected & there:
        if wrong := not_whole(out / name):
            yield f"after {run}: {wrong}"
    made: list[str] = []
    for line in (out / RECORD).read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # cut short by a kill: its picture is found by the next run
            continue
        if entry["status"] in ("done", "found"):
            made.append(entry["output"])
        else:
            yield f"after {run}: {entry}"
    for name in expected:
        if made.count(name) != 1:
            yield f"after {run}: {name} stands {made.count(name)} times in the record"


BARS: dict[str, Bar[Bench]] = {"kill_faults": (lambda b: told("kill", kills(b)), AT_MOST, 0)}
