"""Files found to harm: bombs within the limit, pipes, TIFF that count to billions, weights that promise too much."""

from __future__ import annotations

import json
import os
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from style_helpers import draw, random_update
from trust import mutate

from apps.style_transfer.files import decode
from apps.style_transfer.files.clips import read_clip, write_clip
from apps.style_transfer.files.decode import check_size, quiet, read_raster, size_of
from apps.style_transfer.files.images import ImageError, Picture, read_image
from apps.style_transfer.files.raster import MAX_PIXELS
from apps.style_transfer.learned.checkpoint import load_solver
from apps.style_transfer.learned.update import Architecture
from apps.style_transfer.masks import read_masks
from apps.style_transfer.weights import write_tensors


def test_a_bomb_within_the_limit_is_refused_but_not_a_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_PLAIN", 10_000)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(mutate.flat_png(400, 300))
    with pytest.raises(ImageError, match=r"400 x 300 pixels in 1 kB, as no photograph has.*--max-megapixels 161"):
        read_raster(bomb)
    assert read_raster(bomb, max_pixels=MAX_PIXELS + 1).values.shape == (300, 400, 3)
    assert read_masks(bomb).content.shape == (1, 300, 400)
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).save(noise)
    assert read_raster(noise).values.shape == (300, 400, 3)


@pytest.mark.parametrize(
    ("width", "height", "size", "fits"),
    [
        (4000, 3000, 150_000, True),
        (4000, 3000, 149_999, False),
        (2000, 1000, 6_250, True),
        (2000, 1000, 6_249, False),
        (500, 300, 36, True),
        (20_000, 400, 10**6, True),
        (20_000, 399, 10**6, False),
        (16, 20_000, 10**4, True),
    ],
)
def test_what_no_photograph_is_like_is_refused_by_its_header(
    tmp_path: Path, width: int, height: int, size: int, fits: bool
) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(bytes(size))  # the header has been read: its size is what is told
    for limit, flat in ((MAX_PIXELS + 1, False), (MAX_PIXELS, True)):
        check_size(path, width, height, max_pixels=limit, flat=flat)
    refused = nullcontext() if fits else pytest.raises(ImageError, match=r"as no photograph has.*--max-megapixels 161")
    with refused:
        check_size(path, width, height, max_pixels=MAX_PIXELS)


def test_a_clip_of_countless_small_frames_is_refused_before_they_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "many.gif"
    path.write_bytes(mutate.many_frames(16, 50))
    clip = read_clip(path, max_pixels=50 * 512)
    assert clip is not None
    assert clip.frames == 50
    with pytest.raises(ImageError, match="has 50 frames of 16 x 16 pixels"):
        read_clip(path, max_pixels=50 * 512 - 1)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, size_of, read_clip):
        with pytest.raises(ImageError, match="is no file but a pipe or a device"):
            read(tmp_path / "pipe.png")


TAGS: list[tuple[str, dict[int, Any]]] = [
    ("tiles are far larger", {322: 60_000, 323: 60_000}),
    ("strips are longer than the file", {325: (65_535,) * 4}),
    ("width and height are no numbers", {256: (20, 20)}),
    ("4 of its 512 strips or tiles", {257: 8_192}),
    ("1 channels are too few for its colours", {277: 1, 258: 8}),
]


@pytest.mark.parametrize(("words", "tags"), TAGS)
def test_what_a_tiff_says_of_itself_makes_no_room(tmp_path: Path, words: str, tags: dict[int, Any]) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(32, 32), bigtiff=True)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag, value in tags.items():
            file.pages[0].tags[tag].overwrite(value)  # type: ignore[union-attr]
    with pytest.raises(ImageError, match=f"damaged or cut short .*{words}"):
        read_image(path)
    if 256 in tags:
        with pytest.raises(ImageError, match=words):
            size_of(path)


def test_decoders_keep_quiet_in_every_thread_and_hold_no_other_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "x.png"
    Image.fromarray((np.arange(40 * 40 * 3) % 256).reshape(40, 40, 3).astype(np.uint8)).save(whole)
    before = warnings.filters[:]  # type: ignore[index]
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with quiet():
            inside.set()
            assert done.wait(20)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(20)
    assert read_image(whole).rgb.shape == (1, 3, 40, 40)  # while the other decodes
    with quiet():
        warnings.warn("a decoder's", stacklevel=1)
    done.set()
    thread.join()
    assert warnings.filters == before
    # What libpng has to say of a 16-bit picture comes by a logger.
    deep = mutate.png_chunks(deep_png())
    deep.insert(1, (b"eXIf", b"x\0\0"))
    whole.write_bytes(deep_png()[:8] + b"".join(mutate.chunk(*part) for part in deep))
    read_image(whole)
    assert capfd.readouterr() == ("", "")


def deep_png() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.full((20, 20, 3), 1000, np.uint16)))


def test_a_clip_being_restyled_holds_nobody_up(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((20, 20, 3), 60 * i, np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=50)
    clip = read_clip(tmp_path / "clip.gif")
    assert clip is not None
    sizes: list[tuple[int, int]] = []

    def restyled() -> Any:
        for frame in clip:
            thread = threading.Thread(target=lambda: sizes.append(read_image(tmp_path / "clip.gif").rgb.shape[-2:]))
            thread.start()
            thread.join(20)
            yield Picture(frame.rgb)

    write_clip(tmp_path / "out.gif", restyled(), clip)
    assert sizes == [(20, 20)] * 3


SMALL = Architecture(channels=(3, 4), convolutions=(1, 1), kinds=("whitening",))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"channels": [10**9, 10**9]}, "does not fit its architecture"),
        ({"channels": [4096, 4096]}, "does not fit its architecture"),
        ({"channels": [3.0, 4]}, "does not know"),
        ({"channels": [True, True]}, "does not know"),
        ({"convolutions": [10**6, 1]}, "does not know"),
        ({"kinds": ["whitening"] * 10**5}, "does not know"),
        ({"padding": "evil"}, "does not know"),
        ({"bounded": "no"}, "does not know"),
    ],
)
def test_weights_that_promise_too_much_are_refused_before_room_is_made(
    tmp_path: Path, fields: dict[str, object], words: str
) -> None:
    path = tmp_path / "w.safetensors"
    header = {"format": "gram-update/3", "architecture": json.dumps({**SMALL.as_dict(), **fields})}
    write_tensors(path, random_update(SMALL).state_dict(), header)
    with pytest.raises(ValueError, match=words) as said:
        load_solver(path)
    assert str(path) in str(said.value)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200, 1j, 1])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path: Path, value: complex) -> None:
    path, tensors = tmp_path / "w.safetensors", random_update(SMALL).state_dict()
    name = sorted(tensors)[-1]
    kind = {float: torch.float64, complex: torch.complex64, int: torch.int32}[type(value)]
    tensors[name] = torch.full_like(tensors[name], value, dtype=kind)
    header = {"format": "gram-update/3", "architecture": json.dumps(SMALL.as_dict())}
    write_tensors(path, tensors, header)
    with pytest.raises(ValueError, match=r"no finite numbers"):
        load_solver(path)


def test_sound_weights_still_load(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    update = random_update(SMALL)
    write_tensors(path, update.state_dict(), {"format": "gram-update/3", "architecture": json.dumps(SMALL.as_dict())})
    solver = load_solver(path)
    assert all(torch.equal(v, update.state_dict()[k]) for k, v in solver.update.state_dict().items())
    assert bool(solver(draw(20, 20), solver.update.encode(draw(20, 20))).x.isfinite().all())  # type: ignore[operator]
