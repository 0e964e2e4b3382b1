"""Mutated images through the command line and the page: each gives a picture or one clear line, soon, in little memory.

Mostly the file is the photograph, else the style or the mask. A part of the files is also given to a command line of
its own, as a user would.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx
from bars import AT_MOST, Bar

from trust import mutate
from trust.bench import HANG, Bench, Ended, not_whole, painting, photograph, program, serving, told, unclear
from trust.resident import Resident

GIGABYTES = 2.0


def files(b: Bench, row: str, whole: int, quick: int) -> list[tuple[Path, str]]:
    """Write the cases, and return each with what it is given as."""
    generator, folder = b.generator(row), b.place(row)
    found = []
    for case in mutate.cases(generator, b.count(whole, quick)):
        path = folder / case.name
        path.write_bytes(case.data)
        found.append((path, generator.choice(["content"] * 7 + ["style"] * 2 + ["content_mask"])))
    return found


@cache
def command_line(b: Bench) -> tuple[list[str], float]:
    """Return the faults of the command line and its peak in gigabytes."""
    folder, faults, peak = b.place("fuzz-out"), [], 0
    good = {"content": photograph(folder / "good.png", 64, 48), "style": painting(folder / "painting.png")}
    cases = files(b, "fuzz-cli", 200, 16)

    def arguments(path: Path, role: str, output: Path) -> list[object]:
        roles = {**good, role: path}
        masks = ["--content-mask", path] if role == "content_mask" else []
        return ["-c", roles["content"], "-s", roles["style"], *masks, "-o", output, "--memory", "0.5"]

    with Resident() as resident:
        for path, role in cases:
            output = folder / f"{path.stem}.png"
            ended = resident.run(*arguments(path, role, output))
            peak = max(peak, ended.peak)
            faults += [f"{path.name} as {role}: {fault}" for fault in _judged(ended, output)]
    for path, role in b.generator("fuzz-alone").sample(cases, b.count(5, 0)):
        output = folder / f"{path.stem}-alone.png"
        ended = program(*arguments(path, role, output), limit=2 * HANG)
        peak = max(peak, ended.peak)
        faults += [f"{path.name} as {role}, alone: {fault}" for fault in _judged(ended, output)]
    return faults, peak / 1e9


def _judged(ended: Ended, output: Path) -> Iterator[str]:
    if ended.status is not None and ended.seconds > HANG:
        yield f"took {ended.seconds:.0f} s"
    if ended.peak > GIGABYTES * 1e9:
        yield f"took {ended.peak / 1e9:.2f} GB"
    if "Traceback" in ended.err:
        yield f"a traceback: {ended.err[-400:]!r}"
    if output.with_suffix(".gif").exists():
        output = output.with_suffix(".gif")
    if ended.status == 0:
        if wrong := not_whole(output) if output.exists() else "status 0 and no picture":
            yield wrong
    else:
        if wrong := ended.refusal():
            yield wrong
        if output.exists():
            yield "refused, and yet there is an output"
    output.unlink(missing_ok=True)


@cache
def page(b: Bench) -> tuple[list[str], float]:
    """Return the faults of the page's API and its peak in gigabytes."""
    folder, faults = b.place("fuzz-page"), []
    good = {
        "content": photograph(folder / "good.png", 64, 48).read_bytes(),
        "style": painting(folder / "painting.png").read_bytes(),
    }
    with serving(folder) as server:
        with server.client(2 * HANG) as client:
            for path, role in files(b, "fuzz-api", 200, 12):
                form = {name: (f"{name}.png", data) for name, data in good.items()}
                form[role] = (path.name, path.read_bytes())
                kind = b.generator(path.name).choice(["png", "jpeg", "webp", "tiff"])
                name, began = f"{path.name} as {role}", time.monotonic()
                try:
                    answer = client.post("/api/v1/stylize", files=form, data={"format": kind})
                except httpx.HTTPError as error:
                    faults.append(f"{name}: {type(error).__name__} after {time.monotonic() - began:.0f} s")
                    if not server.alive:
                        faults.append("the server is dead")
                        break
                    continue
                if (seconds := time.monotonic() - began) > HANG:
                    faults.append(f"{name}: took {seconds:.0f} s")
                if answer.status_code == 200:
                    made = folder / "made"
                    made.write_bytes(answer.content)
                    wrong = not_whole(made)
                elif answer.status_code in (413, 422):
                    line = answer.json()["error"]
                    wrong = "it tells where the server keeps things" if str(folder) in line else unclear(line)
                else:
                    wrong = f"status {answer.status_code}: {answer.text[:200]}"
                faults += [f"{name}: {wrong}"] if wrong else []
        if server.alive and not server.waits_for(0):
            faults.append("some slot is still held")
        if "Traceback" in (log := "".join(server.log)):
            faults.append(f"a traceback in the log: {log[-1500:]}")
        return faults, server.peak / 1e9


BARS: dict[str, Bar[Bench]] = {
    "fuzz_cli_faults": (lambda b: told("fuzz_cli", command_line(b)[0]), AT_MOST, 0),
    "fuzz_cli_gigabytes": (lambda b: command_line(b)[1], AT_MOST, GIGABYTES),
    "fuzz_page_faults": (lambda b: told("fuzz_page", page(b)[0]), AT_MOST, 0),
    "fuzz_page_gigabytes": (lambda b: page(b)[1], AT_MOST, GIGABYTES),
}
