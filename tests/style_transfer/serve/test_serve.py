"""The server: its API gives what the Stylizer gives, and its queue frees what nobody wants."""

from __future__ import annotations

import io
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from serve_helpers import PAINTING, PHOTO, V1, Gate, encoded, form, pixels, serving, until, wait
from style_helpers import Program, draw

from apps.style_transfer import Stylizer
from apps.style_transfer.files.images import to_pil
from apps.style_transfer.serve.jobs import Jobs
from apps.style_transfer.serve.limits import Limits
from apps.style_transfer.serve.work import Restyler
from apps.style_transfer.style import gallery


def blocks(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return image.reshape(image.shape[0] // 16, 16, image.shape[1] // 16, 16, 3).mean((1, 3))


def test_a_job_gives_what_the_stylizer_gives(real: tuple[httpx.Client, Jobs], stylizer: Stylizer) -> None:
    client, jobs = real
    answer = client.post(f"{V1}/jobs", files=form(content=("my photo.png", PHOTO), photo=0.5))
    assert answer.status_code == 202, answer.text
    name = answer.json()["id"]
    assert answer.headers["location"] == f"{V1}/jobs/{name}"
    status = wait(client, name)
    assert (status["state"], status["step"], status["steps"]) == ("done", 5, 5)
    assert (status["width"], status["height"], status["name"]) == (48, 32, "my_photo_stylized_style.png")
    result = client.get(f"{V1}/jobs/{name}/result")
    assert len(result.content) == status["bytes"]
    assert "my_photo_stylized_style.png" in result.headers["content-disposition"]
    with Image.open(io.BytesIO(PHOTO)) as photo, Image.open(io.BytesIO(PAINTING)) as painting:
        expected = stylizer(photo, painting, photo=0.5)
    assert np.abs(pixels(result.content) - np.asarray(expected.pil()).astype(int)).max() <= 1
    for step, x in enumerate(expected.iterates):
        shown = pixels(client.get(f"{V1}/jobs/{name}/preview", params={"step": step}).content)
        # A JPEG keeps the means of blocks, whatever it does to noise.
        assert np.abs(blocks(shown) - blocks(np.asarray(to_pil(x)).astype(int))).max() < 6
    last = client.get(f"{V1}/jobs/{name}/preview")
    assert last.content == client.get(f"{V1}/jobs/{name}/preview", params={"step": 5}).content
    assert client.get(f"{V1}/jobs/{name}/preview", params={"step": 6}).status_code == 404
    assert client.get(f"{V1}/jobs/{name}/preview", params={"step": "x"}).status_code == 422
    assert not (jobs.folder / name / "uploads").exists()
    assert client.delete(f"{V1}/jobs/{name}").status_code == 200
    assert client.get(f"{V1}/jobs/{name}").status_code == 404
    assert list(jobs.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 0.5),
        ("photo", 1),
        ("size", 32),
        ("style_scale", 2),
        ("preserve_color", "luminance"),
        ("preserve_color", "histogram"),
        ("style", "hokusai-great-wave"),
    ],
)
def test_every_field_is_that_of_the_stylizer(client: httpx.Client, stylizer: Stylizer, field: str, value: Any) -> None:
    answer = client.post(f"{V1}/stylize", files=form(**{field: value}))
    assert answer.status_code == 200, answer.text
    made = pixels(answer.content)
    style: Any = Image.open(io.BytesIO(PAINTING))
    options = {field: value} if field != "style" else {}
    expected = stylizer(Image.open(io.BytesIO(PHOTO)), value if field == "style" else style, **options)
    assert np.abs(made - np.asarray(expected.pil()).astype(int)).max() <= 1
    plain = pixels(client.post(f"{V1}/stylize", files=form()).content)
    assert made.shape != plain.shape or np.abs(made - plain).max() > 2


def test_regions_are_those_of_the_stylizer(client: httpx.Client, stylizer: Stylizer) -> None:
    painted = torch.zeros(1, 3, 32, 48)
    painted[..., 24:] = 1
    masks = {"content_mask": encoded(painted), "style_mask": encoded(painted.mT)}
    found = [
        pixels(client.post(f"{V1}/stylize", files=form(**some)).content)
        for some in (masks, {}, dict([*masks.items()][:1]))
    ]
    halves = (painted[0, 0].numpy(), painted[0, 0].T.numpy())
    for answer, regions in zip(found, (halves, None, halves[0]), strict=True):
        expected = stylizer(Image.open(io.BytesIO(PHOTO)), Image.open(io.BytesIO(PAINTING)), masks=regions)
        assert np.abs(answer - np.asarray(expected.pil()).astype(int)).max() <= 1
    assert min(np.abs(found[0] - found[1]).max(), np.abs(found[1] - found[2]).max()) > 2


@pytest.mark.parametrize(("kind", "found"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF")])
def test_the_result_has_the_type_asked_for_and_the_metadata(client: httpx.Client, kind: str, found: str) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a wall", 6  # to be turned by a quarter
    photo = encoded(draw(32, 48), "jpeg", exif=exif, dpi=(300, 300))
    answer = client.post(f"{V1}/stylize", files=form(content=photo, format=kind))
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == (found, (32, 48))
        assert image.getexif()[0x010E] == "a wall"
        assert image.getexif().get(0x0112, 1) == 1


def test_a_saved_style_and_the_picture_give_the_same(client: httpx.Client, stylizer: Stylizer, tmp_path: Path) -> None:
    path = tmp_path / "mine.style.safetensors"
    stylizer.style(Image.open(io.BytesIO(PAINTING)), size=48).save(path)
    saved = client.post(f"{V1}/stylize", files=form(style=(path.name, path.read_bytes())))
    assert "style_stylized_mine" in saved.headers["content-disposition"].replace("content", "style")
    picture = client.post(f"{V1}/stylize", files=form())
    assert np.abs(pixels(saved.content) - pixels(picture.content)).max() <= 1


def test_styles_are_those_of_the_gallery(client: httpx.Client) -> None:
    listed = client.get(f"{V1}/styles").json()
    assert {entry["name"] for entry in listed} == set(gallery())
    assert all(entry["title"] and entry["credit"] for entry in listed)
    picture = client.get(listed[0]["picture"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert max(pixels(picture.content).shape) == 320
    assert client.get(f"{V1}/styles/nobody/picture").status_code == 404


def test_the_api_describes_itself(client: httpx.Client) -> None:
    paths = client.get(f"{V1}/openapi.json").json()["paths"]
    jobs = f"{V1}/jobs"
    assert {path: set(methods) for path, methods in paths.items()} == {
        jobs: {"post"},
        f"{jobs}/{{name}}": {"get", "delete"},
        f"{jobs}/{{name}}/preview": {"get"},
        f"{jobs}/{{name}}/result": {"get"},
        f"{V1}/stylize": {"post"},
        f"{V1}/styles": {"get"},
        f"{V1}/styles/{{name}}/picture": {"get"},
        f"{V1}/health": {"get"},
    }
    fields = paths[jobs]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    documented = (Path(__file__).parents[3] / "docs" / "howto" / "serve.md").read_text()
    assert set(fields) == set(re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE))
    assert client.get(f"{V1}/health").json()["limits"]["pixels"] == 100_000


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    names = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"/page.js", "/page.css", "/icon.svg"} <= set(names)
    for name in {*names, "/paint.js"}:
        answer = client.get(name)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|//cdn|@import", answer.text)
    assert "innerHTML" not in client.get("/page.js").text + client.get("/paint.js").text
    assert not re.search(r"\son\w+=|<style|<script>|style=", page.text)


def test_cancelling_frees_the_slot_and_the_folder() -> None:
    gate = Gate()
    with serving(gate, Limits(queue=2)) as (client, jobs):
        first, second = (client.post(f"{V1}/jobs", files=form()).json()["id"] for _ in range(2))
        gate.began.wait(10)
        assert client.get(f"{V1}/jobs/{second}").json()["ahead"] == 1
        assert client.get(f"{V1}/jobs/{second}/result").status_code == 404
        full = client.post(f"{V1}/jobs", files=form())
        assert (full.status_code, int(full.headers["retry-after"]) > 0) == (503, True)
        assert "try again" in full.json()["error"]
        for name in (second, first):  # one that waits, one at work
            assert client.delete(f"{V1}/jobs/{name}").json()["state"] == "cancelled"
            assert client.get(f"{V1}/jobs/{name}").json()["state"] == "cancelled"
        until(lambda: list(jobs.folder.iterdir()) == [])
        third = client.post(f"{V1}/jobs", files=form())
        assert third.status_code == 202
        gate.go_on.set()
        status = wait(client, third.json()["id"])
        assert (status["state"], status["message"]) == ("failed", "there is no picture in this test")
        assert client.get(f"{V1}/jobs/{status['id']}/result").status_code == 422


def test_whoever_hangs_up_has_cancelled() -> None:
    gate = Gate()
    with serving(gate) as (client, jobs):
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{V1}/stylize", files=form(), timeout=0.5)
        until(lambda: jobs.waiting == 0 and list(jobs.folder.iterdir()) == [])


def test_whoever_does_not_ask_is_dropped_and_results_expire() -> None:
    gate = Gate()
    with serving(gate, Limits(patience_seconds=0.2, keep_seconds=0.4)) as (client, jobs):
        name = client.post(f"{V1}/jobs", files=form()).json()["id"]
        for _ in range(10):
            time.sleep(0.05)
            assert client.get(f"{V1}/jobs/{name}").json()["state"] in ("queued", "running")
        until(lambda: jobs.waiting == 0)
        assert client.get(f"{V1}/jobs/{name}").json()["state"] == "cancelled"
        until(lambda: client.get(f"{V1}/jobs/{name}").status_code == 404)


def test_only_so_many_results_are_kept(stylizer: Stylizer) -> None:
    with serving(Restyler(stylizer), Limits(kept=2)) as (client, jobs):
        names = []
        for _ in range(3):
            names.append(client.post(f"{V1}/jobs", files=form()).json()["id"])
            wait(client, names[-1])
        assert [client.get(f"{V1}/jobs/{name}").status_code for name in names] == [404, 200, 200]
        assert {path.name for path in jobs.folder.iterdir()} == set(names[1:])
        assert all(path.stat().st_mode & 0o777 == 0o700 for path in (jobs.folder, *jobs.folder.iterdir()))


def test_fifty_at_once_are_all_answered_or_refused(stylizer: Stylizer) -> None:
    alone = serving(Restyler(stylizer), Limits(queue=6))
    with alone as (client, jobs), ThreadPoolExecutor(50) as pool:
        expected = pixels(client.post(f"{V1}/stylize", files=form()).content)
        answers = list(pool.map(lambda _: client.post(f"{V1}/stylize", files=form()), range(50)))
        assert {answer.status_code for answer in answers} == {200, 503}
        for answer in answers:
            if answer.status_code == 200:
                assert np.array_equal(pixels(answer.content), expected)
            else:
                assert 1 <= int(answer.headers["retry-after"]) <= 60
        until(lambda: jobs.waiting == 0 and list(jobs.folder.iterdir()) == [])


def test_the_command_serves_until_it_is_stopped(
    weights: Path, monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    seen: list[Any] = []

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        seen.append((server.config, sockets[0].getsockname()))

    monkeypatch.setattr(uvicorn.Server, "run", run)
    status, _, err = program("serve", "--port", 0, "--weights", weights, "--device", "cpu", "--max-queue", 3)
    ((_, address),) = seen
    assert (status, address[0]) == (0, "127.0.0.1")
    assert f"http://127.0.0.1:{address[1]}" in err
    assert "password" not in err
    status, _, err = program("serve", "--port", 0, "--host", "0.0.0.0", "--weights", weights, "--device", "cpu")
    assert (status, "no password" in err) == (0, True)
