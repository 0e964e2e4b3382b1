"""Disks that are full or read-only: a clear error, and nothing half-written.

The disk is a small tmpfs where one can be mounted, by root; else files are kept from growing by RLIMIT_FSIZE, and there
is no read-only one. What was used is told.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from bars import AT_MOST, Bar
from PIL import Image

from trust.bench import Bench, Ended, not_whole, painting, photograph, serving, told
from trust.resident import Resident

KILOBYTES = 64


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount a small disk at a place, made for it; gives whether it could be done."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={KILOBYTES}k", "tmpfs", str(place)],
        stderr=subprocess.DEVNULL,
        check=False,
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(place)], check=True)


def faults(b: Bench) -> Iterator[str]:
    """Tell what goes wrong on full disks and on read-only ones."""
    folder = b.place("disk")
    photo, style = photograph(folder / "photo.png", 320, 240), painting(folder / "painting.png")
    with Image.open(photo) as image:
        tifffile.imwrite(
            folder / "deep.tif", np.asarray(image).astype(np.uint16) * 257, photometric="rgb", metadata=None
        )
        turned = [image.resize((200, 150)).rotate(20 * i) for i in range(4)]
        turned[0].save(folder / "clip.gif", save_all=True, append_images=turned[1:], duration=50)
    shots = folder / "shots"
    shots.mkdir()
    for i, side in enumerate((48, 64, 320, 320)):
        photograph(shots / f"photo{i}.png", side, side * 3 // 4)
    disk = folder / "disk"
    with small_disk(disk) as mounted, Resident() as resident:
        sys.stderr.write(f"  disk: {f'a tmpfs of {KILOBYTES} kB' if mounted else 'no mount allowed, not measured'}\n")
        if not mounted:
            raise RuntimeError("a small disk cannot be mounted here: run it as root")
        run = partial(resident.run, "-s", style)
        tries = {
            "png": lambda: run("-c", photo, "-o", disk / "out.png"),
            "deep tiff": lambda: run("-c", folder / "deep.tif", "-o", disk / "out.tif"),
            "deep png": lambda: run("-c", folder / "deep.tif", "-o", disk / "out.png"),
            "clip": lambda: run("-c", folder / "clip.gif", "-o", disk / "out.gif"),
            "tiles": lambda: run("-c", photo, "-o", disk / "out.png", "--memory", "0.05"),
            "saved style": lambda: resident.run("style", "save", style, "-o", disk / "mine.style.safetensors"),
            "folder": lambda: run("-c", shots, "-o", disk),
        }
        for name, attempt in tries.items():
            yield from judged(f"full, {name}", attempt(), disk, statuses=(1, 2))
            clear(disk)
        (disk / "filler").write_bytes(bytes(KILOBYTES * 1024 - 4096 * 4))
        fill(disk / "more")
        for name, attempt in tries.items():
            yield from judged(f"quite full, {name}", attempt(), disk, statuses=(1, 2))
            clear(disk, all_but=("filler", "more"))
        clear(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for name, attempt in tries.items():
            yield from judged(f"read-only, {name}", attempt(), disk, statuses=(1, 2))
        subprocess.run(["mount", "-o", f"remount,rw,size={4 * KILOBYTES}k", str(disk)], check=True)
        yield from on_the_server(disk, photo, style)


def fill(path: Path) -> None:
    try:
        with path.open("wb", buffering=0) as file:
            while file.write(bytes(1024)):
                pass
    except OSError:
        pass


def clear(disk: Path, *, all_but: tuple[str, ...] = ()) -> None:
    for path in sorted(disk.rglob("*"), reverse=True):
        if path.name not in all_but:
            path.rmdir() if path.is_dir() else path.unlink()


def judged(what: str, ended: Ended, disk: Path, *, statuses: tuple[int, ...]) -> Iterator[str]:
    """Tell what is wrong with a run on such a disk."""
    if "Traceback" in ended.err:
        yield f"{what}: a traceback: {ended.err[-400:]!r}"
    elif ended.status == 1:
        if not all(line in ended.err for line in ("failed: ", "free some space")):
            yield f"{what}: not clear: {ended.err[-400:]!r}"
    elif wrong := ended.refusal(statuses):
        yield f"{what}: {wrong}"
    for path in disk.rglob("*"):
        if path.name.startswith("."):
            yield f"{what}: {path.relative_to(disk)} is left"
        elif path.suffix in (".png", ".tif", ".gif") and (wrong := not_whole(path)):
            yield f"{what}: {wrong}"
        elif path.suffix == ".safetensors":
            yield f"{what}: {path.name} is left"


def on_the_server(disk: Path, photo: Path, style: Path) -> Iterator[str]:
    """Tell what goes wrong where the server's temporary folder is on such a disk."""
    noise = bytes(np.random.default_rng(0).integers(0, 256, 6 * KILOBYTES * 1024, np.uint8))
    with serving(disk) as server, server.client() as client:
        whole = {"style": ("s.png", style.read_bytes())}
        for name, data, statuses in (("upload", noise, (507,)), ("result", photo.read_bytes(), (422, 507, 200))):
            answer = client.post("/api/v1/stylize", files={**whole, "content": ("p.png", data)}, data={"size": "400"})
            if answer.status_code not in statuses:
                yield f"the server, {name}: status {answer.status_code}: {answer.text[:200]}"
            elif answer.status_code != 200 and str(disk) in answer.text:
                yield f"the server, {name}: it tells where it keeps things: {answer.text[:200]}"
        if not server.waits_for(0):
            yield "the server: a slot is still held"
        if "Traceback" in "".join(server.log):
            yield f"the server: a traceback in its log: {''.join(server.log)[-400:]}"


BARS: dict[str, Bar[Bench]] = {"disk_faults": (lambda b: told("disk", faults(b)), AT_MOST, 0)}
