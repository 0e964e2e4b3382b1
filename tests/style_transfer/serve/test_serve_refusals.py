"""What the server refuses: in one line, with nothing read or written outside its folder."""

from __future__ import annotations

import errno
import io
import json
import re
import socket
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from serve_helpers import PHOTO, V1, Gate, encoded, form, serving, until, wait
from style_helpers import Program, draw

from apps.style_transfer.serve.jobs import Job, Jobs
from apps.style_transfer.serve.limits import Limits


def noise(height: int, width: int) -> bytes:
    return encoded(torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)))


def animation() -> bytes:
    """Return a GIF of two frames, of which the second is one pixel: as many more would cost next to no bytes."""
    kept = io.BytesIO()
    first = Image.new("RGB", (64, 48), "red")
    second = first.copy()
    second.putpixel((0, 0), (0, 0, 255))
    first.save(kept, "gif", save_all=True, append_images=[second])
    return kept.getvalue()


REFUSED = [
    ({"content": b"GIF89a<script>"}, 422, "content"),
    ({"content": b"not a picture"}, 422, "content"),
    ({"content": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n"}, 422, "content"),
    ({"content": animation()}, 422, "animation"),
    ({"content": ("", b"")}, 422, "content"),
    ({"content": "http://127.0.0.1/photo.png"}, 422, "content"),
    ({"content": noise(8, 64)}, 422, "16"),
    ({"content": encoded(torch.zeros(1, 3, 400, 400))}, 413, "megapixels"),
    ({"content": noise(290, 290)}, 413, "MB"),
    ({"style": encoded(torch.zeros(1, 3, 400, 400))}, 413, "megapixels"),
    ({"style": "http://127.0.0.1/style.png"}, 422, "style"),
    ({"style": "../pictures/petra.jpg"}, 422, "style"),
    ({"style": "/etc/passwd"}, 422, "style"),
    ({"style": ""}, 422, "style"),
    ({"content": encoded(draw(16, 2000)), "style": encoded(draw(64, 64))}, 413, "style"),
    ({"alpha": 2}, 422, "alpha"),
    ({"alpha": "nan"}, 422, "alpha"),
    ({"photo": "much"}, 422, "photo"),
    ({"size": 400}, 413, "size of 300 or less"),
    ({"content": encoded(torch.zeros(1, 3, 300, 300))}, 413, "size of 244 or less"),
    ({"size": 8}, 422, "size"),
    ({"format": "exe"}, 422, "format"),
    ({"preserve_color": "x"}, 422, "preserve_color"),
    ({"url": "http://127.0.0.1/"}, 422, "url"),
    ({"<b>": "x" * 500}, 422, "field"),
    ({"alpha": "1" * 2000}, 413, "alpha"),
    ({"more": ("f.png", PHOTO)}, 422, "more"),
    ({"style_mask": PHOTO}, 422, "style_mask"),
    ({"content_mask": b"x"}, 422, "content_mask"),
]


@pytest.mark.parametrize(("fields", "status", "word"), REFUSED)
def test_refusals_are_one_line(real: tuple[httpx.Client, Jobs], fields: dict[str, Any], status: int, word: str) -> None:
    client, jobs = real
    answer = client.post(f"{V1}/jobs", files=form(**fields))
    assert answer.status_code == status, answer.text
    (line,) = answer.json().values()
    assert word in line
    assert len(line) < 200
    assert "\n" not in line
    assert str(jobs.folder) not in line
    until(lambda: jobs.waiting == 0 and not list(jobs.folder.glob("*/uploads")))


@pytest.mark.parametrize("cut", [0.3, 0.7])
def test_a_damaged_picture_is_one_line_too(client: httpx.Client, cut: float) -> None:
    answer = client.post(f"{V1}/stylize", files=form(content=("p.png", PHOTO[: int(cut * len(PHOTO))])))
    assert answer.status_code == 422
    assert "photograph" in answer.json()["error"]
    assert "/" not in answer.json()["error"].replace(" / ", "")


def test_the_limits_are_not_those_of_the_gallery(client: httpx.Client) -> None:
    assert client.post(f"{V1}/stylize", files=form(style="mucha-reverie")).status_code == 200


def test_a_pickle_is_no_style(client: httpx.Client) -> None:
    answer = client.post(f"{V1}/stylize", files=form(style=("x.style.safetensors", b"\x80\x04\x95cos\nsystem\n")))
    assert (answer.status_code, "style" in answer.json()["error"]) == (422, True)


BOUNDED = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n1\r\n'
BROKEN = [
    (b"{}", "application/json", 415),
    (b"content=x", "application/x-www-form-urlencoded", 415),
    (b"", "multipart/form-data", 415),
    (b"garbage", BOUNDED, 400),
    (PART % (b"content", b'; filename="a"'), BOUNDED, 400),
    (b"--b\r\nX: y\r\n\r\nabc\r\n--b--\r\n", BOUNDED, 422),
    (PART % (b"alpha", b"") * 2 + b"--b--\r\n", BOUNDED, 422),
    (b"".join(PART % (b"a%d" % i, b"") for i in range(50)) + b"--b--\r\n", BOUNDED, 422),
]


@pytest.mark.parametrize(("body", "kind", "status"), BROKEN)
def test_broken_forms_are_refused(real: tuple[httpx.Client, Jobs], body: bytes, kind: str, status: int) -> None:
    client, jobs = real
    answer = client.post(f"{V1}/jobs", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    until(lambda: jobs.waiting == 0)


STEPS = [f"step-{t}.jpg" for t in range(5)]


@pytest.mark.parametrize(
    "name", ["../../evil.png", "/tmp/evil.png", "..\\evil.png", "a\0b.png", "<img src=x>.png", "ÿ" * 300]
)
def test_names_are_no_paths_and_no_html(real: tuple[httpx.Client, Jobs], name: str) -> None:
    client, jobs = real
    answer = client.post(f"{V1}/jobs", files=form(content=(name, PHOTO)))
    assert answer.status_code == 202
    status = wait(client, answer.json()["id"])
    assert re.fullmatch(r"[\w-][\w.-]{0,80}_stylized_style\.png", status["name"])
    assert {path.name for path in jobs.folder.rglob("*")} <= {status["id"], "result.png", *STEPS}
    assert not list(jobs.folder.parent.glob("evil*"))
    client.delete(f"{V1}/jobs/{status['id']}")


PART_DATA = "apps.style_transfer.serve.upload._Reader._part_data"
OTHER = ["/../api.py", "/..%2fapi.py", "/page/index.html", "/jobs.py", "/docs", "/redoc"]
OTHER += [f"{V1}/jobs/..%2f..", f"{V1}/styles/..%2findex.toml/picture"]


@pytest.mark.parametrize("path", OTHER)
def test_nothing_but_the_page_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code in (404, 405)


def test_other_sites_are_kept_out(client: httpx.Client) -> None:
    assert client.get(f"{V1}/health", headers={"host": "evil.example"}).status_code == 421
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert client.post(f"{V1}/jobs", files=form(), headers={"origin": origin}).status_code == 403
    own = str(client.base_url)
    assert client.post(f"{V1}/stylize", files=form(), headers={"origin": own}).status_code == 200
    assert (
        "access-control-allow-origin"
        not in client.get(f"{V1}/health", headers={"origin": "http://evil.example"}).headers
    )


def test_a_slow_upload_is_given_up_and_a_broken_one_too() -> None:
    with serving(Gate(), Limits(idle_seconds=0.3)) as (client, jobs):
        head = f"POST {V1}/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: {BOUNDED}\r\n\r\n--b\r\n"
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as slow:
            slow.sendall(head.encode())
            until(lambda: jobs.waiting == 1)
            slow.settimeout(20)
            answer = slow.recv(4000)
            assert answer.startswith(b"HTTP/1.1 408")
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as gone:
            gone.sendall(head.encode())
            until(lambda: jobs.waiting == 1)
        until(lambda: jobs.waiting == 0 and list(jobs.folder.glob("*/uploads")) == [])


@pytest.mark.parametrize("path", [f"{V1}/jobs", f"{V1}/health", "/nothing"])
def test_a_request_without_an_end_is_not_read_for_ever(path: str) -> None:
    block, sent, answer = b"10000\r\n" + bytes(1 << 16) + b"\r\n", 0, b""
    part = b'--b\r\nContent-Disposition: form-data; name="content"; filename="p.png"\r\n\r\n'
    with serving(Gate(), Limits(bytes=1000)) as (client, jobs):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: {BOUNDED}\r\n\r\n"
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20) as endless:
            endless.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(part), part))
            try:
                while sent < 1 << 28:
                    endless.sendall(block)
                    sent += len(block)
                answer = endless.recv(100)
            except ConnectionError:
                pass  # closed while more was on its way
        assert sent < 1 << 27
        assert not answer
        until(lambda: jobs.waiting == 0)


def test_a_full_disk_is_one_line(real: tuple[httpx.Client, Jobs], monkeypatch: pytest.MonkeyPatch) -> None:
    client, jobs = real

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(jobs.folder / "x"))

    for place, status in (("apps.style_transfer.serve.work.write_image", 422), (PART_DATA, 507)):
        monkeypatch.setattr(place, full)
        answer = client.post(f"{V1}/stylize", files=form())
        assert answer.status_code == status
        assert "No space left" in answer.json()["error"]
        assert str(jobs.folder) not in answer.text
    until(lambda: jobs.waiting == 0 and not list(jobs.folder.iterdir()))


def test_a_fault_of_the_program_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    def work(job: Job) -> None:
        raise KeyError("a secret")

    with serving(work) as (client, _):
        answer = client.post(f"{V1}/stylize", files=form())
    assert answer.status_code == 422
    assert "secret" not in answer.text
    assert "a secret" in caplog.text


def test_the_command_says_what_is_wrong(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, err = program("serve", "--port", taken.getsockname()[1])
    assert (status, err.count("\n")) == (2, 1)
    assert "--port" in err
    for option in ("--max-queue", "--max-megapixels", "--max-result-megapixels", "--max-megabytes", "--keep-minutes"):
        status, _, err = program("serve", option, 0)
        assert (status, err.count("\n")) == (2, 1), err


def test_limits_that_let_nothing_through_are_refused() -> None:
    with pytest.raises(ValueError, match="queue"):
        Limits(queue=0)
    assert json.dumps(vars(Limits()))
