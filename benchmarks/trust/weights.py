"""Weights and styles that are broken or evil: refused with one line, and nothing executed."""

from __future__ import annotations

import json
import pickle
import random
import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from bars import AT_MOST, Bar
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from apps.style_transfer.weights import EMBEDDED_SOLVER
from trust.bench import Bench, not_whole, painting, photograph, serving, told
from trust.mutate import bits, cut
from trust.resident import Resident


class Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self._mark), "w")


def opened(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def pickles(mark: Path, folder: Path) -> dict[str, bytes]:
    """Return pickles of every kind."""
    found = {f"pickle {n}": pickle.dumps(Evil(mark), protocol=n) for n in range(6)}
    torch.save({"x": Evil(mark)}, folder / "torch.pt")
    found["torch"] = (folder / "torch.pt").read_bytes()
    torch.save(Evil(mark), folder / "old.pt", _use_new_zipfile_serialization=False)
    found["old torch"] = (folder / "old.pt").read_bytes()
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(mark)))
    found["zip"] = (folder / "x.zip").read_bytes()
    return found


def broken(tensors: dict[str, Tensor], header: dict[str, str], generator: random.Random) -> Iterator[tuple[str, bytes]]:
    """Give files of tensors that are wrong, by what is wrong with them."""
    whole = save(tensors, header)
    length = struct.unpack("<Q", whole[:8])[0]
    for i in range(4):
        yield f"cut {i}", cut(whole, generator)
    for i in range(4):
        yield f"bits of the header {i}", whole[:8] + bits(whole[8 : 8 + length], generator) + whole[8 + length :]
    for size in (0, length - 1, length + 1, 2**31, 2**63):
        yield f"a header of {size}", struct.pack("<Q", size) + whole[8:]
    yield "a deep header", struct.pack("<Q", 200_000) + b"[" * 200_000
    yield "nothing", b""
    name = generator.choice(sorted(tensors))
    one = tensors[name]
    yield "NaN", save({**tensors, name: torch.full_like(one, torch.nan)}, header)
    yield "infinite", save({**tensors, name: torch.full_like(one, torch.inf)}, header)
    yield "another shape", save({**tensors, name: torch.zeros(3, 5, 7)}, header)
    yield "one dimension more", save({**tensors, name: one[None].contiguous()}, header)
    yield "none of a tensor", save({**tensors, name: torch.zeros(0)}, header)
    yield "one less", save({k: v for k, v in tensors.items() if k != name}, header)
    yield "one more", save({**tensors, "evil": torch.zeros(1)}, header)
    yield "whole numbers", save({k: v.to(torch.int32) for k, v in tensors.items()}, header)
    yield "complex", save({**tensors, name: one.to(torch.complex64)}, header)
    yield "beyond single", save({**tensors, name: torch.full_like(one, 1e200, dtype=torch.float64)}, header)
    yield "no header", save(tensors)
    for key in header:
        if key in ("format", "architecture", "levels", "weights"):
            for value in ("", "null", "[]", "{}", "1e999", '"' * 9, "[" * 50_000, "\0", "[4,4,4,1000000000]", "é" * 3):
                yield f"{key} {value[:20]!r}", save(tensors, {**header, key: value})
    if "architecture" in header:
        fields = json.loads(header["architecture"])
        for key, value in {
            "channels": [10**9] * 4, "convolutions": [10**6] * 4, "kinds": ["whitening"] * 10**5, "padding": "evil",
            "bounded": "no", "colours": 7, "more": 1, "channels ": [True] * 4,
        }.items():  # fmt: skip
            yield f"{key} absurd", save(tensors, {**header, "architecture": json.dumps({**fields, key.strip(): value})})


def faults(b: Bench) -> Iterator[str]:
    """Tell what is not refused in one line."""
    generator, folder = b.generator("weights"), b.place("weights")
    photo, style, mark = photograph(folder / "p.png", 48, 40), painting(folder / "s.png", 48), folder / "EXECUTED"
    output, file = folder / "out.png", folder / "x.style.safetensors"
    with Resident() as resident:
        ended = resident.run("style", "save", style, "-o", folder / "good.style.safetensors")
        if ended.status != 0:
            yield f"a good style is not saved: {ended.err[-300:]}"
            return
        kept = opened(folder / "good.style.safetensors")
        ways = {
            "weights": (opened(EMBEDDED_SOLVER), partial(resident.run, "-s", style, "--weights")),
            "style": (kept, partial(resident.run, "-s")),
        }
        for role, (good, run) in ways.items():
            evil = list(pickles(mark, folder).items())
            cases = [*evil, *broken(*good, generator)]
            for what, data in cases if not b.quick else generator.sample(cases, 6):
                file.write_bytes(data)
                ended = run(file, "-c", photo, "-o", output)
                # What is flipped may be a text that means nothing to the picture.
                harmless = "bits" in what and ended.status == 0 and not not_whole(output)
                if not harmless and (wrong := ended.refusal()):
                    yield f"{role}, {what}: {wrong}"
                if output.exists() and not harmless:
                    yield f"{role}, {what}: there is an output"
                output.unlink(missing_ok=True)
                if ended.peak > 2e9 or ended.seconds > 30:
                    yield f"{role}, {what}: {ended.peak / 1e9:.1f} GB, {ended.seconds:.0f} s"
                if mark.exists():
                    yield f"{role}, {what}: EXECUTED"
                    mark.unlink()
    if not b.quick:
        yield from on_the_server(b, photo, kept, mark, generator)


def on_the_server(
    b: Bench, photo: Path, kept: tuple[dict[str, Tensor], dict[str, str]], mark: Path, generator: random.Random
) -> Iterator[str]:
    """Upload the same as styles."""
    folder = b.place("weights-api")
    with serving(folder) as server, server.client(60) as client:
        for what, data in [*pickles(mark, folder).items(), *broken(*kept, generator)]:
            for name in ("x.style.safetensors", "x.png"):
                files = {"content": ("p.png", photo.read_bytes()), "style": (name, data)}
                answer = client.post("/api/v1/stylize", files=files)
                if answer.status_code != 422 and not ("bits" in what and answer.status_code == 200):
                    yield f"the page, {what} as {name}: status {answer.status_code}: {answer.text[:200]}"
                elif answer.status_code == 422 and str(folder) in answer.text:
                    yield f"the page, {what} as {name}: it tells where it keeps things: {answer.text[:200]}"
                if mark.exists():
                    yield f"the page, {what}: EXECUTED"
                    mark.unlink()
        if "Traceback" in (log := "".join(server.log)):
            yield f"the page: a traceback in its log: {log[-1200:]}"


BARS: dict[str, Bar[Bench]] = {"weights_faults": (lambda b: told("weights", faults(b)), AT_MOST, 0)}
