"""Clients that send nothing, too many of them, and servers that were killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from serve_helpers import V1, Gate

from apps.style_transfer.serve.api import create_app
from apps.style_transfer.serve.jobs import Jobs
from apps.style_transfer.serve.patience import patient
from apps.style_transfer.serve.private import Private, clear_stale


@contextmanager
def impatient(head_seconds: float, connections: int = 20) -> Iterator[int]:
    """Run a server that waits so long for a head; give its port."""
    settings = uvicorn.Config(
        create_app(Jobs(Gate())),
        log_level="critical",
        ws="none",
        http=patient(head_seconds=head_seconds, connections=connections),
        timeout_keep_alive=30,
    )
    server, listening = uvicorn.Server(settings), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def gone(talk: socket.socket) -> bool:
    """Return whether the other side has hung up; what it says before is passed over."""
    try:
        while talk.recv(4000):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def test_who_sends_no_head_is_sent_away_and_who_waits_for_an_answer_is_not() -> None:
    with impatient(0.5) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
            assert gone(silent)
        with socket.create_connection(("127.0.0.1", port), timeout=0.1) as dribbling:
            dribbling.sendall(b"GET / HTTP/1.1\r\n")
            until = time.monotonic() + 10
            while not gone(dribbling):
                assert time.monotonic() < until
                try:
                    dribbling.sendall(b"X")
                except OSError:
                    break
        # A kept connection: the next head has its own time, from its first byte on.
        head = f"GET {V1}/health HTTP/1.1\r\nHost: x\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as kept:
            for _ in range(2):
                kept.sendall(f"{head}\r\n".encode())
                said = b""
                while not said.endswith(b"}}"):
                    said += kept.recv(4000)
                assert said.startswith(b"HTTP/1.1 200")
            kept.sendall(head.encode())
            assert gone(kept)
        # A body, and an answer, may take longer.
        with socket.create_connection(("127.0.0.1", port), timeout=1) as body:
            kind = "Content-Type: multipart/form-data; boundary=b"
            body.sendall(f"POST {V1}/jobs HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: 99\r\n\r\n".encode())
            with pytest.raises(TimeoutError):
                body.recv(1)


def test_one_connection_too_many_is_told_when_to_come_again() -> None:
    with impatient(20, connections=2) as port:
        held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2)]
        time.sleep(0.2)
        answer = httpx.get(f"http://127.0.0.1:{port}{V1}/health")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert list(answer.json()) == ["error"]
        for talk in held:
            talk.close()
        time.sleep(0.2)
        assert httpx.get(f"http://127.0.0.1:{port}{V1}/health").status_code == 200


def test_what_a_killed_server_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import time\nfrom apps.style_transfer.serve.private import Private\n"
        "p = Private()\n(p.folder / 'upload').write_text('a secret')\nprint(p.folder, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().strip())
        assert (folder / "upload").exists()
        assert clear_stale() == []  # it lives
        other.send_signal(signal.SIGKILL)
        other.wait()
    (tmp_path / "unroll-style-of-another-program").mkdir()
    (tmp_path / "unroll-style-link").symlink_to(tmp_path)
    mine = Private()
    assert not folder.exists()
    assert mine.folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in tmp_path.glob("unroll-style-*")} - {mine.folder.parent.name} == {
        "unroll-style-of-another-program",
        "unroll-style-link",
    }
    mine.close()
    mine.close()
    assert not mine.folder.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ended_before_it_serves_leaves_nothing(tmp_path: Path, number: int) -> None:
    script = f"""
import os, pathlib, signal, uvicorn
from apps.style_transfer.cli import run
def early(*_, **__):
    print(*(path.name for path in pathlib.Path(os.environ["TMPDIR"]).glob("unroll-style-*")), flush=True)
    signal.raise_signal({number:d})
uvicorn.Server.run = early
raise SystemExit(run(["serve", "--port", "0"]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.startswith("unroll-style-")
    assert list(tmp_path.glob("unroll-style-*")) == []
    assert ended.returncode == (-signal.SIGTERM if number == signal.SIGTERM else 130)
    assert "Traceback" not in ended.stderr
