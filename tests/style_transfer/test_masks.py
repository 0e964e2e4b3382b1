"""Masks are read as people have them, matched by name, scaled with a word, and fall back as documented."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from style_helpers import draw, random_update
from torch import Tensor

from apps.style_transfer.files import decode
from apps.style_transfer.learned.update import Architecture
from apps.style_transfer.masks import COLOURS, fit_masks, read_masks, regional_style
from unroll import Unrolled

SMALL = Architecture(channels=(4, 6), convolutions=(2, 2), kinds=("whitening", "gradient"))
NAMES = list(COLOURS)


def quarters(names: list[str], side: int = 48) -> np.ndarray:
    """Return a picture (side, side, 3) uint8 of four squares in named colours."""
    corners = np.array([COLOURS[name] for name in names], dtype=np.uint8).reshape(2, 2, 3)
    return corners.repeat(side // 2, 0).repeat(side // 2, 1)


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("names", [NAMES[:4], NAMES[3:7], NAMES[5:9]], ids=str)
def test_the_colours_of_luan_are_read_by_name(names: list[str], tmp_path: Path) -> None:
    masks = read_masks(save(tmp_path / "m.png", quarters(names)), quarters(names[::-1]))
    assert set(masks.names) == set(names)
    for name, ours, theirs in zip(masks.names, masks.content, masks.style, strict=True):
        y, x = divmod(names.index(name), 2)
        assert ours.float().mean() == 255 / 4
        assert bool((ours[24 * y : 24 * y + 24, 24 * x : 24 * x + 24] == 255).all())
        assert torch.equal(theirs, ours.flip(0, 1))


@pytest.mark.parametrize(
    "names", [["blue", "green", "black", "white"], ["red", "purple", "yellow", "light blue"]], ids=str
)
@pytest.mark.parametrize("quality", [40, 90])
def test_jpeg_noise_makes_no_regions(names: list[str], quality: int) -> None:
    exact = quarters(names, side=64)
    noisy = read_masks(jpeg(exact, quality), exact)
    assert set(noisy.names) == set(names)
    for ours, theirs in zip(noisy.content, noisy.style, strict=True):
        assert float((ours != theirs).float().mean()) < 0.02
    assert bool((noisy.content.sum(0) == 255).all()), "every pixel in one region"


def test_a_label_image_names_regions_by_value() -> None:
    labels = np.array([[0, 1], [2, 7]], dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for array in (labels, labels.astype(np.int64), torch.from_numpy(labels).int()):
        masks = read_masks(array, labels.T.copy())
        assert set(masks.names) == {"black", "1", "2", "7"}
        for name, mask in zip(masks.names, masks.content, strict=True):
            np.testing.assert_array_equal(mask, 255 * (labels == (0 if name == "black" else int(name))))


def test_colours_of_ones_own_are_labels_too() -> None:
    pixels = quarters(["black"] * 4)
    pixels[:, 24:] = (18, 52, 86)
    assert set(read_masks(pixels).names) == {"black", "#123456"}


@pytest.mark.parametrize("kind", ["picture", "array", "tensor"])
def test_a_grey_mask_is_a_soft_region_and_what_it_leaves(kind: str, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (32, 1))
    source: object = ramp / 255.0 if kind == "array" else torch.from_numpy(ramp / np.float32(255))
    masks = read_masks(save(tmp_path / "m.png", ramp) if kind == "picture" else source)  # type: ignore[arg-type]
    assert masks.names == ("white", "black")
    np.testing.assert_array_equal(masks.content, np.stack([ramp, 255 - ramp]))


@pytest.mark.parametrize("kind", ["L", "P", "RGB", "deep", "tif"])
def test_of_a_mask_beyond_measure_every_second_pixel_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((60, 81), dtype=np.uint8)
    labels[10:, 30:] = 255
    path = tmp_path / ("m.tif" if kind == "tif" else "m.png")
    if kind in ("deep", "tif"):
        imagecodecs.imwrite(path, labels.astype(np.uint16) * 257)
    else:
        Image.fromarray(labels).convert(kind).save(path)
    whole = read_masks(path)
    monkeypatch.setattr(decode, "_MASK", 60 * 81 // 4)
    thin = read_masks(path)
    assert thin.names == whole.names == ("white", "black")
    assert torch.equal(thin.content[:, 6:, 16:], whole.content[:, ::2, ::2][:, 6:, 16:])
    assert float((thin.content != whole.content[:, ::2, ::2]).float().mean()) < 0.03  # a row, a column


def test_smoothed_edges_stay_soft() -> None:
    disc = np.zeros((40, 40), dtype=np.uint8)
    disc[10:30, 10:30] = 255
    disc[10, 10:30], disc[29, 10:30] = 64, 128
    assert read_masks(disc).names == ("white", "black")
    np.testing.assert_array_equal(read_masks(disc).content[0], disc)


def test_stacks_are_taken_as_they_are_and_matched_by_place() -> None:
    stack = torch.rand(3, 8, 9) + 0.01
    stack = stack / stack.amax()
    masks = read_masks(stack, stack.flip(-1))
    assert masks.names == ("mask 0", "mask 1", "mask 2")
    torch.testing.assert_close(masks.content.float() / 255, stack, rtol=0, atol=0.003)
    assert torch.equal(masks.style, masks.content.flip(-1))
    both = torch.stack([stack[0] > 0.5, stack[0] <= 0.5])
    assert torch.equal(read_masks(both).content, 255 * both.to(torch.uint8))


def test_regions_that_one_side_lacks(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = quarters(["blue", "green", "red", "red"]), quarters(["blue", "yellow", "yellow", "green"])
    update, style = random_update(SMALL), draw(48, 48, phase=1)
    masks = read_masks(ours, theirs)
    assert "yellow: they are left out" in caplog.text
    data = regional_style(update, style, masks, (48, 48))
    assert "no region red: the whole style stands in" in caplog.text
    whole, place = update.encode(style), masks.names.index("red")
    for levels, expected in zip(data.styles, whole, strict=True):
        for one, all_of_it in zip(levels, expected, strict=True):
            torch.testing.assert_close(one.covariance[place], all_of_it.covariance[0], rtol=1e-4, atol=1e-5)
            assert not torch.allclose(one.covariance[1 - place], all_of_it.covariance[0], rtol=1e-2)


def test_masks_of_another_size_are_scaled_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    update, x, style = random_update(SMALL), draw(48, 64), draw(48, 48, phase=1)
    left = np.zeros((24, 32), dtype=np.uint8)
    left[:, :16] = 255
    large = left.repeat(2, 0).repeat(2, 1)
    with caplog.at_level(logging.WARNING):
        small_data = regional_style(update, style, read_masks(left, left), x.shape[-2:])
    assert "content mask of 32 x 24 is scaled to 64 x 48" in caplog.text
    assert "style mask of 32 x 24 is scaled to 48 x 48" in caplog.text
    data = regional_style(update, style, read_masks(large, left), x.shape[-2:])
    with torch.no_grad():
        one, other = (Unrolled(update, steps=2)(x, d).x for d in (small_data, data))
        plain = Unrolled(update, steps=2)(x, update.encode(style)).x
    assert float((one - other).abs().mean()) < 0.2 * float((one - plain).abs().mean())
    assert fit_masks(read_masks(large).content, (12, 16)).float().mean() == pytest.approx(127.5, abs=1)


BAD: dict[str, tuple[object, object, str]] = {
    "no file": (Path("nowhere.png"), None, "no picture at nowhere.png"),
    "one number": (np.float32(1), None, r"must be \(H, W\)"),
    "empty": (np.zeros((0, 3)), None, r"must be \(H, W\)"),
    "range": (np.full((4, 4), 3.0), None, r"must lie in \[0, 1\]"),
    "nan": (np.full((4, 4), np.nan), None, r"must lie in \[0, 1\]"),
    "labels": (np.arange(10000).reshape(100, 100), None, "has 10000 labels"),
    "hole": (torch.zeros(2, 4, 4), None, "lie in no region"),
    "apart": (quarters(["blue"] * 4), quarters(["red"] * 4), "regions blue, the style mask red, none in common"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_masks_are_refused_in_one_line(case: str) -> None:
    content, style, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        read_masks(content, style)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_reading_changes_no_array() -> None:
    arrays: list[Tensor] = [torch.rand(6, 7), torch.randint(0, 3, (6, 7)), torch.rand(2, 6, 7) + 0.1]
    arrays[2] /= arrays[2].amax()
    before = [a.clone() for a in arrays]
    for array in arrays:
        read_masks(array)
    assert all(torch.equal(a, b) for a, b in zip(arrays, before, strict=True))
