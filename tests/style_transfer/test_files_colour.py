"""Colour profiles: against ImageCms, there and back, and what is wrong with them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from style_helpers import draw

from apps.style_transfer.files import icc
from apps.style_transfer.files.images import Picture, read_image, write_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WIDE = imagecodecs.cms_profile(
    "rgb", whitepoint=[0.3127, 0.3290], primaries=[0.64, 0.33, 0.21, 0.71, 0.15, 0.06], gamma=2.2
)
GREY = imagecodecs.cms_profile("gray", gamma=1.0)
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)


def by_image_cms(image: Image.Image, profile: bytes) -> np.ndarray:  # type: ignore[type-arg]
    transform = ImageCms.buildTransform(
        io.BytesIO(profile),
        io.BytesIO(SRGB),
        image.mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE,
    )
    found = ImageCms.applyTransform(image, transform)
    assert found is not None
    return np.asarray(found).astype(float)


def ink_profile() -> bytes:
    """Return a CMYK profile: ideal grey steps in Lab, a table of two points in each ink (ICC.1:2001, 6.5.7)."""
    # L of each of the 16 corners falls with the ink on it; a and b are those of no colour but for c and y.
    corners = [
        (255 * (4 - c - m - y - k) // 4, 128 - 60 * c + 60 * m, 128 + 60 * y)
        for c in (0, 1)
        for m in (0, 1)
        for y in (0, 1)
        for k in (0, 1)
    ]
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = (
        b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + bytes(v for c in corners for v in c) + ramp * 3
    )
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, at = [(b"A2B0", table), (b"wtpt", white)], 128 + 4 + 2 * 12
    directory, data = struct.pack(">I", len(tags)), b""
    for name, content in tags:
        content += bytes(-len(content) % 4)
        directory += name + struct.pack(">II", at + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", at + len(data), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + directory + data


def test_colours_are_those_of_image_cms(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS)
    image.save(tmp_path / "in.png", icc_profile=WIDE)
    picture = read_image(tmp_path / "in.png")
    expected = by_image_cms(image, WIDE)
    assert np.abs(expected - COLOURS).max() > 20
    np.testing.assert_allclose(picture.rgb[0].permute(1, 2, 0) * 255, expected, atol=1)  # that has 8 bits
    assert picture.icc_profile == WIDE


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("depth", [8, 16])
def test_there_and_back_within_srgb(tmp_path: Path, suffix: str, depth: int) -> None:
    """What sRGB has comes back as it was; the wide space has more, which goes to the edge."""
    srgb = draw(24, 32, roughness=0.1)
    write_image(tmp_path / f"in{suffix}", Picture(srgb, icc_profile=WIDE, depth=depth))
    picture = read_image(tmp_path / f"in{suffix}")
    step = 1 / (2**depth - 1)
    assert float((picture.rgb - srgb).abs().max()) < (6 if depth == 8 else 12) * step  # of rounding, where it is dark
    write_image(tmp_path / f"out{suffix}", picture)
    for name in ("in", "out"):
        with Image.open(tmp_path / f"{name}{suffix}") as image:
            assert image.info["icc_profile"] == WIDE
    first, second = (imagecodecs.imread(tmp_path / f"{name}{suffix}").astype(int) for name in ("in", "out"))
    assert np.abs(first - second).max() <= (1 if depth == 8 else 4)
    assert (first != (srgb[0] / step).round().permute(1, 2, 0).numpy()).any()


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "in.png", icc_profile=SRGB)
    picture = read_image(tmp_path / "in.png")
    assert torch.equal((picture.rgb[0] * 255).round().to(torch.uint8).permute(1, 2, 0), torch.from_numpy(COLOURS))
    assert picture.icc_profile == SRGB


def test_grey_in_a_profile_of_grey(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (20, 1))
    image = Image.fromarray(ramp)
    image.save(tmp_path / "in.png", icc_profile=GREY)
    picture = read_image(tmp_path / "in.png")
    np.testing.assert_allclose(picture.rgb[0].permute(1, 2, 0) * 255, by_image_cms(image, GREY), atol=1)
    # Linear light, so middle grey is lighter in sRGB.
    assert float(picture.rgb[0, 0, 0, 32]) > 0.7
    assert picture.icc_profile is None


def test_grey_in_a_profile_of_colours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (20, 1))
    Image.fromarray(ramp).save(tmp_path / "in.png", icc_profile=WIDE)
    picture = read_image(tmp_path / "in.png")
    expected = by_image_cms(Image.fromarray(ramp).convert("RGB"), WIDE)
    np.testing.assert_allclose(picture.rgb[0].permute(1, 2, 0) * 255, expected, atol=1)
    assert not caplog.records


def test_inks_in_their_profile(tmp_path: Path) -> None:
    profile = ink_profile()
    inks = np.random.default_rng(1).integers(0, 256, (20, 24, 4)).astype(np.uint8)
    image = Image.frombytes("CMYK", (24, 20), inks.tobytes())
    for suffix in (".tif", ".jpg"):
        path = tmp_path / f"in{suffix}"
        image.save(path, icc_profile=profile, **({"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}))
        with Image.open(path) as stored:
            stored.load()
            expected = by_image_cms(stored, profile)
        picture = read_image(path)
        np.testing.assert_allclose(picture.rgb[0].permute(1, 2, 0) * 255, expected, atol=2)
        assert picture.icc_profile is None
        write_image(tmp_path / "out.png", picture)
        with Image.open(tmp_path / "out.png") as out:
            assert (out.mode, out.info.get("icc_profile")) == ("RGB", None)


@pytest.mark.parametrize(
    "profile", [b"a profile", WIDE[:200], ink_profile(), GREY], ids=["text", "cut", "inks", "grey"]
)
def test_a_wrong_profile_is_a_warning(tmp_path: Path, profile: bytes, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "in.png", icc_profile=profile)
    picture = read_image(tmp_path / "in.png")
    assert len(caplog.records) == 1
    assert "its colour profile is damaged or of another kind; the colours are taken as sRGB" in caplog.text
    assert torch.equal((picture.rgb[0] * 255).round().to(torch.uint8).permute(1, 2, 0), torch.from_numpy(COLOURS))
    assert picture.icc_profile is None
    write_image(tmp_path / "out.jpg", Picture(picture.rgb, icc_profile=profile))
    assert read_image(tmp_path / "out.jpg").icc_profile is None


def test_blocks_of_rows_are_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = icc.to_srgb(COLOURS, WIDE, "RGB")
    monkeypatch.setattr(icc, "_BLOCK", 5 * 32)
    np.testing.assert_array_equal(icc.to_srgb(COLOURS, WIDE, "RGB"), whole)
