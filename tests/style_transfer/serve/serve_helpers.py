"""A server to be tested, and what to send it."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image
from style_helpers import draw
from torch import Tensor

from apps.style_transfer.files.images import to_pil
from apps.style_transfer.serve.api import create_app
from apps.style_transfer.serve.jobs import Job, Jobs
from apps.style_transfer.serve.limits import Limits
from apps.style_transfer.serve.patience import patient

V1 = "/api/v1"
Form = dict[str, Any]


def encoded(image: Tensor, kind: str = "png", **options: Any) -> bytes:
    kept = io.BytesIO()
    to_pil(image).save(kept, kind, **options)
    return kept.getvalue()


PHOTO = encoded(draw(32, 48))
PAINTING = encoded(draw(40, 28, phase=2.0, roughness=0.2))


def form(**fields: Any) -> Form:
    """The files of a request: bytes, (name, bytes), or what becomes text."""
    fields = {"content": PHOTO, "style": PAINTING} | fields
    parts = {name: (None, str(value)) for name, value in fields.items() if not isinstance(value, bytes | tuple)}
    parts |= {name: (f"{name}.png", value) for name, value in fields.items() if isinstance(value, bytes)}
    return parts | {name: value for name, value in fields.items() if isinstance(value, tuple)}


@contextmanager
def serving(
    work: Callable[[Job], Any], limits: Limits | None = None, **options: Any
) -> Iterator[tuple[httpx.Client, Jobs]]:
    """Run a server of a queue on a free port; give a client, and the queue."""
    jobs = Jobs(work, limits)
    server = uvicorn.Server(
        uvicorn.Config(create_app(jobs, **options), http=patient(), log_level="critical", ws="none")
    )
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=base, timeout=30, limits=httpx.Limits(max_connections=100)) as client:
            yield client, jobs
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        assert not jobs.folder.exists()


class Gate:
    """Work that goes through its four steps only when it is let, and makes no picture."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> None:
        for step in range(5):
            job.advance(step, 4)
            self.began.set()
            while not self.go_on.wait(0.01):
                job.advance(step, 4)
        raise ValueError("there is no picture in this test")


def wait(client: httpx.Client, name: str) -> dict[str, Any]:
    for _ in range(1000):
        status: dict[str, Any] = client.get(f"{V1}/jobs/{name}").json()
        if status["state"] not in ("queued", "running"):
            return status
        time.sleep(0.02)
    raise AssertionError("the job does not end")


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image).astype(int)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come about")
