"""What strangers send to the page: refused, nothing outside the temporary folder read or written, no slot held.

Beside the server lie files that must stay as they are, and a port that nobody may knock at.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from bars import AT_MOST, Bar

from trust.bench import Bench, Server, painting, photograph, serving, tell, told

V1 = "/api/v1"
PATIENCE = 45.0  # seconds until who sends nothing must have been sent away: 20, on a busy machine


def faults(b: Bench) -> Iterator[str]:
    """Tell which attack is not refused."""
    folder = b.place("attacks")
    photo, style = photograph(folder / "photo.png", 64, 48), painting(folder / "painting.png")
    secret = folder / "secret.png"
    secret.write_bytes(photo.read_bytes())
    with knocked() as (port, knocks), serving(folder, "--max-megabytes", 1) as server:
        before = tree(folder)
        with server.client(60) as client:
            for fields, files in forms(photo, style, secret, port, b):
                yield from refused(client, server, fields, files)
            yield from paths(client)
            yield from names(client, photo, style)
            yield from sites(client)
        yield from together(server, [oversized, endless, slow_body, *dribbling(b.count(3, 1))])
        yield from wrong_kinds(server)
        if knocks:
            yield f"the server has called {len(knocks)} times where a form told it to"
        if not server.waits_for(0):
            yield "a slot is still held"
        if tree(folder) != before:
            yield f"files outside were changed: {sorted(set(tree(folder)) ^ set(before))}"
        if left := [path for path in server.temporary.rglob("*") if "uploads" in path.parts]:
            yield f"{len(left)} uploads are still there"
        if "Traceback" in (log := "".join(server.log)):
            yield f"a traceback in the log: {log[-800:]}"
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        killed = set(server.temporary.glob("unroll-style-*"))
    with serving(folder) as server:
        if left := killed & set(server.temporary.iterdir()):
            yield f"a killed server has left {sorted(path.name for path in left)}"
    if left := list((folder / "temporary").glob("unroll-style-*")):
        yield f"a server that ended has left {sorted(path.name for path in left)}"


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return sizes and times of all files but the server's own."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "temporary" not in path.parts
    }


@contextmanager
def knocked() -> Iterator[tuple[int, list[str]]]:
    """Listen on a port; give it, and who has come."""
    knocks: list[str] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        try:
            while True:
                other, where = listening.accept()
                knocks.append(str(where))
                other.close()
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1], knocks
    finally:
        listening.close()


Files = dict[str, tuple[str | None, bytes]]


def forms(photo: Path, style: Path, secret: Path, port: int, b: Bench) -> Iterator[tuple[dict[str, str], Files]]:
    """Give forms that must be refused."""
    whole: Files = {"content": ("p.png", photo.read_bytes()), "style": ("s.png", style.read_bytes())}
    url = f"http://127.0.0.1:{port}/x.png"
    outside = [
        "../../secret.png",
        str(secret),
        "/etc/passwd",
        "..\\..\\secret.png",
        "file:///etc/passwd",
        url,
        "%2e%2e/x",
    ]
    for field in ("content", "style", "content_mask", "style_mask"):
        others = {name: part for name, part in whole.items() if name != field}
        for value in outside:
            yield {field: value}, others
    for name in ("url", "content_url", "path", "file", "weights", "output", "__class__", "callback"):
        yield {name: url}, whole
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'.encode()
    for data in (drawing, b"", b"%PDF-1.7", b"<script>alert(1)</script>", b"%!PS\n(/etc/passwd) run", os.urandom(999)):
        yield {}, {**whole, "content": ("x.png", data)}
        yield {}, {**whole, "style": ("x.style.safetensors", data)}
    for name, value in b.generator("attacks").sample(
        [("alpha", "nan"), ("alpha", "inf"), ("photo", "-1"), ("size", "9" * 9), ("size", "1e3"), ("format", "../x"),
         ("preserve_color", "<b>"), ("style_scale", "0"), ("alpha", "1" * 5000), ("size", "16\0"), ("\r\nX: y", "1")], 8
    ):  # fmt: skip
        yield {name: value}, whole


def refused(client: httpx.Client, server: Server, fields: dict[str, str], files: Files) -> Iterator[str]:
    """Send a form; tell if it is not refused in one line that tells nothing of the server."""
    parts: Files = {**files, **{name: (None, value.encode()) for name, value in fields.items()}}
    what = f"{fields or [part[1][:20] for part in files.values()]}"[:120]
    answer = client.post(f"{V1}/stylize", files=parts)
    if not 400 <= answer.status_code < 500:
        yield f"{what}: status {answer.status_code}"
        return
    line = answer.json().get("error", "")
    if not line or "\n" in line or len(line) > 300 or str(server.temporary.parent) in line:
        yield f"{what}: {line[:300]!r}"


def paths(client: httpx.Client) -> Iterator[str]:
    """Ask for what is not of the page."""
    up = ["/../api.py", "/..%2fapi.py", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/page/../../jobs.py", "/.in-use"]
    up += [f"{V1}/jobs/..%2f..%2fetc", f"{V1}/jobs/%00", f"{V1}/styles/..%2findex.toml/picture", "/docs", "/redoc"]
    for path in up:
        if (status := client.get(path).status_code) not in (400, 404, 405):
            yield f"GET {path}: status {status}"
    for method in ("PUT", "PATCH", "TRACE", "CONNECT", "DELETE"):
        if (status := client.request(method, f"{V1}/stylize").status_code) not in (400, 404, 405):
            yield f"{method}: status {status}"


def names(client: httpx.Client, photo: Path, style: Path) -> Iterator[str]:
    """Upload under names that are HTML, headers or paths: done, but under a name that is none of it."""
    for name in (
        "<img src=x onerror=alert(1)>.png",
        'a"\r\nSet-Cookie: x=1\r\n.png',
        "../../../evil.png",
        "\0.png",
        "é" * 400,
    ):
        files = {"content": (name, photo.read_bytes()), "style": (name, style.read_bytes())}
        answer = client.post(f"{V1}/stylize", files=files)
        said = json.dumps(dict(answer.headers))
        if answer.status_code not in (200, 400, 422) or any(bad in said for bad in ("<img", "set-cookie", "../")):
            yield f"the name {name[:40]!r}: status {answer.status_code}, {said[:300]}"


def sites(client: httpx.Client) -> Iterator[str]:
    """Come by the name of another site, or from one."""
    if (status := client.get(f"{V1}/health", headers={"host": "evil.example"}).status_code) != 421:
        yield f"by another name: status {status}"
    for origin in ("http://evil.example", "null", "file://"):
        if (status := client.post(f"{V1}/jobs", headers={"origin": origin}).status_code) != 403:
            yield f"from {origin}: status {status}"


FORM = "Content-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="content"; filename="p.png"\r\n\r\n'


def head(more: str) -> bytes:
    return f"POST {V1}/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n{FORM}{more}\r\n".encode()


def wrong_kinds(server: Server) -> Iterator[str]:
    for kind in ("application/json", "text/html", "multipart/form-data", "multipart/mixed; boundary=b", "x" * 900):
        request = f"POST {V1}/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: 2\r\n"
        said = tell(server.port, f"{request}Connection: close\r\n\r\n{{}}".encode())
        if not said.startswith(b"HTTP/1.1 415"):
            yield f"the type {kind[:40]}: {said[:100]!r}"
    for broken in (b"\0\0\0\0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n"):
        if (said := tell(server.port, broken)) and not said.startswith(b"HTTP/1.1 4"):
            yield f"{broken[:20]!r}: {said[:100]!r}"


def oversized(server: Server) -> Iterator[str]:
    """Announce ten gigabytes."""
    said = tell(server.port, head("Content-Length: 10000000000\r\n") + PART)
    if not said.startswith(b"HTTP/1.1 413"):
        yield f"an oversized upload: {said[:100]!r}"


def endless(server: Server) -> Iterator[str]:
    """Send without announcing an end."""
    block = bytes(1 << 16)
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as talk:
        try:
            talk.sendall(head("Transfer-Encoding: chunked\r\n") + b"%x\r\n%b\r\n" % (len(PART), PART))
            while sent < 1 << 28:
                talk.sendall(b"%x\r\n%b\r\n" % (len(block), block))
                sent += len(block)
                talk.settimeout(0.001)
                try:
                    said = talk.recv(100)
                except TimeoutError:
                    said = b"?"
                talk.settimeout(60)
                if said != b"?":
                    if said and not said.startswith(b"HTTP/1.1 413"):
                        yield f"an endless upload: {said!r}"
                    return
        except OSError:
            return
    yield f"an endless upload was taken: {sent} bytes"


def slow_body(server: Server) -> Iterator[str]:
    """Stop in the middle of a file."""
    said = tell(server.port, head("Content-Length: 100000\r\n") + PART + b"x", seconds=PATIENCE)
    if not said.startswith(b"HTTP/1.1 408"):
        yield f"a slow upload: {said[:100]!r}"


def dribbling(count: int) -> list[Callable[[Server], Iterator[str]]]:
    """Send the head of a request a byte a second; or nothing at all."""

    def dribble(server: Server) -> Iterator[str]:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=1) as talk:
            while time.monotonic() - began < PATIENCE:
                try:
                    talk.sendall(b"GET / HTTP/1.1\r\nX: "[:1] if time.monotonic() - began < 1 else b"E")
                    if talk.recv(1000) == b"":
                        return
                except TimeoutError:
                    continue
                except OSError:
                    return
        yield f"a head that dribbles was borne for {PATIENCE:.0f} s"

    def silent(server: Server) -> Iterator[str]:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as talk:
            try:
                talk.recv(1)
            except TimeoutError:
                yield f"a client that is silent was borne for {PATIENCE:.0f} s"
            except OSError:
                return

    return [dribble, silent] * count


def together(server: Server, attacks: list[Callable[[Server], Iterator[str]]]) -> Iterator[str]:
    """Make attacks that take their time side by side; meanwhile the others must be served."""
    found: list[str] = []
    threads = [threading.Thread(target=lambda attack=attack: found.extend(attack(server))) for attack in attacks]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        with server.client() as client:
            if client.get(f"{V1}/health").status_code != 200 or time.monotonic() - began > 10:
                found.append("meanwhile the others are not served")
        time.sleep(1)
    yield from found


BARS: dict[str, Bar[Bench]] = {"attacks_faults": (lambda b: told("attacks", faults(b)), AT_MOST, 0)}
