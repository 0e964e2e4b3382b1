"""The object of style transfer: what goes in, what comes out, and that it is what the function makes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from style_helpers import draw
from torch import Tensor
from torch.nn.functional import avg_pool2d

from apps.style_transfer import PHOTO, Options, ProjectorOptions, Result, Stylizer, gallery, stylize
from apps.style_transfer.files.images import read_image, to_pil
from apps.style_transfer.stylizer import ImageLike, as_image
from apps.style_transfer.tiles.tiling import working_set
from unroll import Box


@pytest.fixture(scope="module")
def stylizer(weights: Path) -> Stylizer:
    return Stylizer(weights, "cpu")


@pytest.mark.parametrize(
    ("call", "options"),
    [
        ({}, Options()),
        ({"alpha": 0.5, "steps": 3}, Options(alpha=0.5, steps=3)),
        ({"photo": 1.0}, Options(projector=PHOTO)),
        ({"projector": "tikhonov"}, Options(projector=ProjectorOptions("tikhonov"))),
        ({"projector": ProjectorOptions("matting", k=12)}, Options(projector=ProjectorOptions("matting", k=12))),
        ({"style_scale": 0.7, "preserve_color": "luminance"}, Options(style_scale=0.7, preserve_color="luminance")),
    ],
    ids=str,
)
def test_it_is_the_function(
    stylizer: Stylizer, photo: Tensor, painting: Tensor, weights: Path, call: dict[str, Any], options: Options
) -> None:
    found = stylizer(photo, painting, **call)
    expected = stylize(photo, painting, Options(**{**vars(options), "weights": weights}))
    assert torch.equal(found.image, expected.image)
    assert found.projector == expected.projector
    for x, y in zip(found.iterates, expected.iterates, strict=True):
        assert torch.equal(x, y)


KINDS: dict[str, Callable[[Image.Image, Path], ImageLike]] = {
    "PIL": lambda image, path: image,
    "PIL with alpha": lambda image, path: image.convert("RGBA"),
    "array": lambda image, path: np.array(image),
    "array of another layout": lambda image, path: np.asfortranarray(np.array(image)),
    "floats": lambda image, path: np.array(image) / np.float32(255),
    "doubles": lambda image, path: np.array(image) / 255,
    "tensor": lambda image, path: torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255,
    "bytes": lambda image, path: torch.from_numpy(np.array(image)).permute(2, 0, 1),
    "batch of one": lambda image, path: (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255)[None],
    "path": lambda image, path: path,
    "text": lambda image, path: str(path),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind_are_the_same_picture(
    stylizer: Stylizer, content_file: Path, style_file: Path, kind: str
) -> None:
    make, expected = KINDS[kind], stylizer(read_image(content_file).rgb, read_image(style_file).rgb)
    with Image.open(content_file) as content, Image.open(style_file) as style:
        found = stylizer(make(content, content_file), make(style, style_file))
    assert torch.equal(found.image, expected.image)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "P", "CMYK", "YCbCr", "HSV", "LAB", "L", "LA", "1", "I", "F"])
def test_pil_images_of_every_mode(mode: str, photo: Tensor) -> None:
    image = to_pil(photo)
    if mode == "LAB":
        profiles = [ImageCms.createProfile(space) for space in ("sRGB", "LAB")]
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")  # type: ignore[assignment]
    else:
        image = image.convert("L").convert(mode) if mode in "LAIF1" else image.convert(mode)
    if mode == "I":  # of which sixteen bits are the rule
        image = Image.fromarray(257 * np.asarray(image))
    found = as_image(image)
    assert found.shape == photo.shape
    # What is left of the colours: all, their mean, or, dithered in black and white, that of a neighbourhood.
    grey = mode in "LAIF1"
    expected = (photo * photo.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True) if grey else photo
    if mode in "1P":
        found, expected = avg_pool2d(found, 8), avg_pool2d(expected, 8)
    torch.testing.assert_close(found, expected.expand_as(found), atol=0.12 if mode in "1P" else 0.07, rtol=0)


def test_grey_pictures_are_the_same_picture(photo: Tensor) -> None:
    grey = to_pil(photo).convert("L")
    pixels = np.asarray(grey)
    expected = as_image(np.dstack([pixels] * 3))
    for image in (grey, pixels, pixels / 255):
        assert torch.equal(as_image(image), expected)


def test_a_name_of_the_gallery_is_its_picture(stylizer: Stylizer, photo: Tensor) -> None:
    entry = gallery()["hokusai-great-wave"]
    assert torch.equal(stylizer(photo, entry.name).image, stylizer(photo, entry.path).image)
    assert not torch.equal(stylizer(photo, entry.name).image, stylizer(photo, "renoir-moulin").image)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (np.zeros((20, 20, 4)), ValueError, r"must be \(H, W, 3\) or, grey, \(H, W\), got \(20, 20, 4\)"),
        (np.zeros((20, 20, 3), dtype=np.int64), TypeError, r"uint8 or floating in \[0, 1\], not torch.int64"),
        (np.full((20, 20, 3), 200.0), ValueError, "divide 8-bit values by 255"),
        (np.full((20, 20), np.nan), ValueError, "mend NaN"),
        (torch.zeros(2, 3, 20, 20), ValueError, r"must be \(3, H, W\) or \(1, 3, H, W\)"),
        (torch.zeros(20, 20, 3), ValueError, r"must be \(3, H, W\) or \(1, 3, H, W\)"),
        (np.zeros((8, 20, 3)), ValueError, "each side needs 16 or more"),
        (b"bytes", TypeError, "a path, a PIL image, an array or a tensor, not a bytes"),
        ("absent.png", ValueError, "no picture at absent.png"),
    ],
    ids=str,
)
def test_what_is_no_picture_is_refused(
    stylizer: Stylizer, photo: Tensor, image: Any, error: type[Exception], words: str
) -> None:
    for arguments in ((image, photo), (photo, image)):
        with pytest.raises(error, match=words):
            stylizer(*arguments)
    with pytest.raises(error, match=words):
        stylizer.style(image)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"size": 8}, "size must be at least 16 pixels, got 8"),
        ({"photo": 0.5, "projector": "box"}, "give photo or a projector"),
        ({"photo": 1.5}, "from 0 to 1, got 1.5"),
        ({"photo": float("nan")}, "from 0 to 1, got nan"),
        ({"alpha": -1}, "alpha must be a number of at least 0"),
        ({"steps": -1}, "number of steps must be at least 0, got -1"),
        ({"steps": math.inf}, "number of steps must be at least 0, got inf"),
        ({"style_scale": 0}, "style-scale must be above 0"),
        ({"style_scale": float("nan")}, "style-scale must be above 0"),
        ({"preserve_color": "hue"}, "unknown preserve-color 'hue': choose luminance or histogram"),
        ({"projector": "magic"}, "unknown projector 'magic'"),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(
    stylizer: Stylizer, photo: Tensor, painting: Tensor, call: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        stylizer(photo, painting, **call)


def test_an_unknown_device_is_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match="unknown device 'abacus': choose auto, cpu, cuda, mps"):
        Stylizer(weights, "abacus")


def test_it_runs_where_it_is_told(weights: Path, photo: Tensor, painting: Tensor, device: torch.device) -> None:
    found = Stylizer(weights, device)(photo, painting).image
    assert found.device.type == device.type
    torch.testing.assert_close(found.cpu(), Stylizer(weights, "cpu")(photo, painting).image, atol=2e-3, rtol=0)


def test_any_operator_may_stand_in_the_loop(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    result = stylizer(photo, painting, projector=Box(0.25, 0.75))
    assert result.projector == "Box"
    for x in result.iterates[1:]:
        assert 0.25 <= float(x.min()) <= float(x.max()) <= 0.75


def test_size_is_the_longest_side(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    assert stylizer(photo, painting, size=96).image.shape == (1, 3, 64, 96)


def test_the_probe_sees_every_step(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    seen: list[tuple[int, Tensor]] = []
    result = stylizer(photo, painting, probe=lambda x, t: seen.append((t, x.clone())))
    assert [t for t, _ in seen] == [0, 1, 2, 3, 4]
    for (_, x), y in zip(seen, result.iterates, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("options", [{}, {"photo": 1.0}, {"preserve_color": "luminance", "alpha": 0.7}], ids=str)
def test_in_tiles_it_makes_the_same_picture(stylizer: Stylizer, weights: Path, options: dict[str, Any]) -> None:
    photo, painting = draw(300, 420), draw(90, 70, phase=2.0)
    seen: list[tuple[int, Tensor]] = []
    tiles: list[tuple[int, int]] = []
    small = Stylizer(weights, "cpu", memory=working_set(stylizer.weights.architecture, 260, 260))
    whole = stylizer(photo, painting, **options)
    parts = small(
        photo,
        painting,
        probe=lambda x, t: seen.append((t, x)),
        progress=lambda done, total: tiles.append((done, total)),
        **options,
    )
    assert tiles[-1][0] == tiles[-1][1] > 2 * 4, "one tile is no test"
    assert (whole.image - parts.image).abs().max() < 1 / 255
    assert torch.equal(parts.iterates[0], photo)
    assert parts.iterates[-1] is parts.image
    assert parts.projector == whole.projector
    assert [t for t, _ in seen] == list(range(len(whole.iterates)))
    for (_, x), y in zip(seen, whole.iterates, strict=True):
        assert (x - y).abs().max() < 1 / 255


def test_what_the_progress_raises_ends_the_call(stylizer: Stylizer, weights: Path) -> None:
    small = Stylizer(weights, "cpu", memory=working_set(stylizer.weights.architecture, 260, 260))

    def stop(done: int, total: int) -> None:
        raise InterruptedError(f"{done} of {total}")

    with pytest.raises(InterruptedError, match="1 of "):
        small(draw(300, 420), draw(90, 70), progress=stop)


def test_what_the_probe_raises_ends_the_call(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    class CancelError(Exception):
        pass

    seen: list[int] = []

    def probe(x: Tensor, t: int) -> None:
        seen.append(t)
        if t == 2:
            raise CancelError

    with pytest.raises(CancelError):
        stylizer(photo, painting, probe=probe)
    assert seen == [0, 1, 2]
    stylizer(photo, painting)  # and the next one is none the worse


def test_arguments_are_left_as_they_were(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    before = photo.clone(), painting.clone()
    stylizer(photo, painting, photo=0.5, preserve_color="histogram")
    assert torch.equal(photo, before[0])
    assert torch.equal(painting, before[1])


def test_threads_may_share_it(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    styles = [painting, painting.flip(1), "hokusai-great-wave", stylizer.style([painting, "renoir-moulin"])]
    jobs: list[dict[str, Any]] = [
        {"style": style, "alpha": alpha, "photo": strength}
        for style in styles
        for alpha, strength in ((0.5, 0.0), (1.0, 0.4))
    ]

    def run(job: dict[str, Any]) -> Tensor:
        return stylizer(photo, **job).image

    expected = [run(job) for job in jobs]
    assert len({float(x.sum()) for x in expected}) == len(jobs)
    with ThreadPoolExecutor(4) as pool:
        for found, one_by_one in zip(pool.map(run, 2 * jobs), 2 * expected, strict=True):
            assert torch.equal(found, one_by_one)


def test_a_notebook_shows_before_and_after(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    def halves(result: Result) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        with Image.open(io.BytesIO(result._repr_png_())) as shown:
            pixels = np.asarray(shown.convert("RGB"))[30:]  # below the captions
        width = (pixels.shape[1] - 8) // 2
        return pixels[:, 8 : 8 + width], pixels[:, 8 + width :]

    before, same = halves(stylizer(photo, painting, alpha=0.0))
    np.testing.assert_array_equal(before, same)
    found, after = halves(stylizer(photo, painting))
    np.testing.assert_array_equal(found, before)
    assert np.abs(after.astype(int) - before).max() > 20


def test_the_picture_is_in_eight_bits(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    result = stylizer(photo, painting)
    pixels = np.asarray(result.pil()) / 255
    np.testing.assert_allclose(pixels, result.image[0].permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6)
