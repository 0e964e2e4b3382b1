"""Fifty requests at once: each is answered, or refused with 503 and a time; who hangs up or cancels frees the slot."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import httpx
from bars import AT_MOST, Bar

from trust.bench import Bench, Server, not_whole, painting, photograph, serving, told

REQUESTS, QUEUE = 50, 8
V1 = "/api/v1"
Form = dict[str, tuple[str, bytes]]


@cache
def crowd(b: Bench) -> tuple[list[str], float]:
    """Return the faults, and the peak of the server in gigabytes."""
    generator, folder = b.generator("crowd"), b.place("crowd")
    form = {
        "content": ("p.png", photograph(folder / "photo.png", 200, 150).read_bytes()),
        "style": ("s.png", painting(folder / "painting.png", 120).read_bytes()),
    }
    with serving(folder, "--max-queue", QUEUE) as server:
        ways = [generator.choice(["wait", "wait", "wait", "hang up", "cancel"]) for _ in range(REQUESTS)]
        delays = [generator.uniform(0, 1.5) for _ in ways]

        def ask(number: int) -> Iterator[str]:
            try:
                act = {"wait": _wait, "hang up": _hang_up, "cancel": _cancel}[ways[number]]
                yield from act(server, form, delays[number], folder / f"made{number}")
            except (httpx.HTTPError, OSError) as error:
                yield f"no answer ({type(error).__name__}: {error})"

        with ThreadPoolExecutor(REQUESTS) as pool:
            found = list(pool.map(lambda n: [f"request {n}, {ways[n]}: {fault}" for fault in ask(n)], range(REQUESTS)))
        faults = [fault for some in found for fault in some]
        if not server.waits_for(0, 60):
            faults.append("slots are still held when all have gone")
        left = [path for path in server.temporary.glob("*/jobs/*/uploads")]
        if left:
            faults.append(f"{len(left)} uploads are still there")
        with server.client(120) as client:
            if (status := client.post(f"{V1}/stylize", files=form).status_code) != 200:
                faults.append(f"afterwards a request is answered {status}")
        if "Traceback" in (log := "".join(server.log)):
            faults.append(f"a traceback in the log: {log[-800:]}")
        return faults, server.peak / 1e9


def _refused(answer: httpx.Response) -> Iterator[str]:
    if answer.status_code != 503:
        yield f"status {answer.status_code}: {answer.text[:200]}"
    elif not answer.headers.get("retry-after", "").isdigit():
        yield "503 without Retry-After"


def _wait(server: Server, form: Form, delay: float, made: Path) -> Iterator[str]:
    with server.client(240) as client:
        answer = client.post(f"{V1}/stylize", files=form)
    if answer.status_code != 200:
        yield from _refused(answer)
        return
    made.write_bytes(answer.content)
    if wrong := not_whole(made):
        yield wrong


def _hang_up(server: Server, form: Form, delay: float, made: Path) -> Iterator[str]:
    """Send a part of a request, or all of it, and go."""
    request = httpx.Request("POST", f"{server.address}{V1}/stylize", files=form)
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as talk:
        talk.sendall(f"POST {V1}/stylize HTTP/1.1\r\n{head}\r\n".encode())
        talk.sendall(body[: round(len(body) * min(1.0, delay))])
        time.sleep(delay)
    yield from ()


def _cancel(server: Server, form: Form, delay: float, made: Path) -> Iterator[str]:
    with server.client(240) as client:
        answer = client.post(f"{V1}/jobs", files=form)
        if answer.status_code != 202:
            yield from _refused(answer)
            return
        time.sleep(delay)
        name = answer.json()["id"]
        state = client.delete(f"{V1}/jobs/{name}").json().get("state")
        if state not in ("cancelled", "done"):
            yield f"cancelled, it is {state}"


BARS: dict[str, Bar[Bench]] = {
    "crowd_faults": (lambda b: told("crowd", crowd(b)[0]), AT_MOST, 0),
    "crowd_gigabytes": (lambda b: crowd(b)[1], AT_MOST, 2.0),
}
