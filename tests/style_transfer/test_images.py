"""Reading and writing pictures the way a photographer expects."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from style_helpers import draw

from apps.style_transfer.files import encode
from apps.style_transfer.files.images import (
    ImageError,
    Picture,
    check_output,
    read_image,
    resize,
    resize_alpha,
    to_pil,
    write_image,
)

RAMP = (np.arange(20 * 30).reshape(20, 30) * 255 // 599).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def values(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    """Return what was read as 8-bit values (H, W, 3)."""
    rgb = read_image(path).rgb
    assert rgb.dtype == torch.float32
    return (rgb[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def test_rgb_comes_and_goes_exactly(tmp_path: Path) -> None:
    source = read_image(saved(tmp_path / "in.png", Image.fromarray(COLOURS), icc_profile=PROFILE))
    assert source.alpha is None
    assert source.icc_profile == PROFILE
    write_image(tmp_path / "out.png", source)
    np.testing.assert_array_equal(values(tmp_path / "out.png"), COLOURS)
    assert read_image(tmp_path / "out.png").icc_profile == PROFILE


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp", ".JPEG"])
def test_every_suffix_can_be_written(tmp_path: Path, suffix: str) -> None:
    picture = Picture(draw(24, 32, roughness=0), torch.full((24, 32), 99, dtype=torch.uint8), PROFILE)
    write_image(tmp_path / f"out{suffix}", picture)
    back = read_image(tmp_path / f"out{suffix}")
    assert float((back.rgb - picture.rgb).abs().mean()) < 0.02
    assert (back.alpha is not None) == (suffix in (".webp", ".tif"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(COLOURS)
    # What a camera stores so that the viewer's turn makes it upright again.
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "in.png", stored, exif=exif)
    np.testing.assert_array_equal(values(path), COLOURS)
    write_image(tmp_path / "out.png", read_image(path))
    with Image.open(tmp_path / "out.png") as out:
        assert out.getexif()[0x0112] == 1


def test_grey_becomes_rgb_without_the_grey_profile(tmp_path: Path) -> None:
    path = saved(tmp_path / "grey.png", Image.fromarray(RAMP), icc_profile=b"grey profile")
    np.testing.assert_array_equal(values(path), np.stack([RAMP] * 3, axis=-1))
    assert read_image(path).icc_profile is None


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(RAMP[::-1].copy())])
    path = saved(tmp_path / "la.png", image, icc_profile=b"grey profile")
    picture = read_image(path)
    np.testing.assert_array_equal(values(path), np.stack([RAMP] * 3, axis=-1))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, RAMP[::-1])
    assert picture.icc_profile is None


def test_one_bit(tmp_path: Path) -> None:
    path = saved(tmp_path / "bit.png", Image.fromarray(RAMP).convert("1", dither=Image.Dither.NONE))
    np.testing.assert_array_equal(values(path)[..., 0], np.where(RAMP > 127, 255, 0))


def palette() -> Image.Image:
    image = Image.fromarray(RAMP // 64)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 250, 240, 230])
    return image


def test_palette(tmp_path: Path) -> None:
    path = saved(tmp_path / "palette.png", palette())
    table = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [250, 240, 230]])
    assert mode(path) == "P"
    np.testing.assert_array_equal(values(path), table[RAMP // 64])
    assert read_image(path).alpha is None


@pytest.mark.parametrize("transparency", [2, bytes([255, 128, 0, 255])], ids=["one colour", "a table"])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    path = saved(tmp_path / "palette.png", palette(), transparency=transparency)
    alpha = read_image(path).alpha
    table = np.array([255, 255, 0, 255]) if transparency == 2 else np.array([255, 128, 0, 255])
    assert alpha is not None
    np.testing.assert_array_equal(alpha, table[RAMP // 64])


def test_rgba_keeps_alpha_and_profile(tmp_path: Path) -> None:
    path = saved(tmp_path / "rgba.png", Image.fromarray(np.dstack([COLOURS, RAMP])), icc_profile=PROFILE)
    picture = read_image(path)
    np.testing.assert_array_equal(values(path), COLOURS)
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, RAMP)
    assert picture.icc_profile == PROFILE
    write_image(tmp_path / "out.png", picture)
    with Image.open(tmp_path / "out.png") as out:
        np.testing.assert_array_equal(np.array(out), np.dstack([COLOURS, RAMP]))


def test_cmyk(tmp_path: Path) -> None:
    inks = np.zeros((20, 30, 4), np.uint8)
    inks[..., 0] = 255
    path = saved(tmp_path / "cmyk.tif", Image.frombytes("CMYK", (30, 20), inks.tobytes()))
    assert (values(path) == [0, 255, 255]).all()
    assert read_image(path).icc_profile is None


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) * 257
    deep[0, 0] = 1000
    path = saved(tmp_path / "deep.png", Image.fromarray(deep))
    assert mode(path).startswith("I")
    rgb = read_image(path).rgb
    np.testing.assert_allclose(rgb[0, 1], deep / 65535, atol=1e-6)
    assert rgb.shape == (1, 3, 20, 30)


def test_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    grey = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    grey[3, 3] = np.nan
    rgb = read_image(saved(tmp_path / "float.tif", Image.fromarray(grey))).rgb
    np.testing.assert_allclose(rgb[0, 2], np.nan_to_num(grey), atol=0.51 / 65535)


def test_resize_sets_the_longest_side_and_keeps_proportions() -> None:
    image = draw(31, 17)
    assert resize(image, 62).shape[-2:] == (62, 34)
    assert resize(image, 31) is image
    assert resize(draw(17, 31), 20).shape[-2:] == (11, 20)
    assert float(resize(image, 64).min()) >= 0
    flat = torch.full((1, 3, 9, 13), 0.25)
    torch.testing.assert_close(resize(flat, 29), torch.full((1, 3, 20, 29), 0.25))
    alpha = torch.full((9, 13), 77, dtype=torch.uint8)
    assert torch.equal(resize_alpha(alpha, (20, 29)), torch.full((20, 29), 77, dtype=torch.uint8))


def test_pixels_are_rounded_and_clipped() -> None:
    image = torch.tensor([-0.5, 0.49 / 255, 0.51 / 255, 1.5]).view(1, 1, 1, 4).repeat(1, 3, 1, 1)
    assert list(np.array(to_pil(image))[0, :, 0]) == [0, 0, 1, 255]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_a_failure_while_writing_leaves_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    path = saved(tmp_path / "out.png", Image.fromarray(COLOURS))

    def save(image: Image.Image, target: Path, **options: object) -> None:
        target.write_bytes(b"half a picture")
        raise fault

    monkeypatch.setattr(encode, "save", save)
    with pytest.raises((ImageError, type(fault))):
        write_image(path, Picture(draw(20, 30)))
    monkeypatch.undo()
    np.testing.assert_array_equal(values(path), COLOURS)
    assert os.listdir(tmp_path) == ["out.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif", ".heic", ".avif"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, suffix: str, depth: int) -> None:
    picture = Picture(draw(96, 96, roughness=1.0), depth=depth)
    write_image(tmp_path / f"whole{suffix}", picture)
    size = (tmp_path / f"whole{suffix}").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(ImageError, match=r"cannot write .*\(File too large\): free some space"):
                write_image(tmp_path / f"out{suffix}", picture)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == [f"whole{suffix}"]


def test_writing_is_checked_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "out.png", "does not exist: create it"),
        (tmp_path / "out.xyz", "no known suffix"),
    ):
        with pytest.raises(ImageError, match=words):
            check_output(path)

    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    check_output(tmp_path / "out.png")
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(ImageError, match=r"cannot write into .* \(Permission denied\)"):
        check_output(tmp_path / "out.png")
