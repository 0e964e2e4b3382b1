"""Sixteen bits, against tifffile and libpng."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from style_helpers import draw

from apps.style_transfer.files.images import Picture, from_pil, read_image, resize_alpha, write_image
from apps.style_transfer.files.raster import to_depth

DEEP = np.random.default_rng(0).integers(0, 65536, (21, 34, 3)).astype(np.uint16)
ALPHA = np.random.default_rng(1).integers(0, 65536, (21, 34)).astype(np.uint16)
Array = np.ndarray[Any, Any]


def written(path: Path) -> Array:
    """Return the pixels of a written file, by another library."""
    return tifffile.imread(path) if path.suffix == ".tif" else imagecodecs.imread(path)


def as_array(picture: Picture) -> Array:
    return (picture.rgb[0] * 65535).round().permute(1, 2, 0).numpy().astype(np.uint16)


@pytest.mark.parametrize("source", [".png", ".tif"])
@pytest.mark.parametrize("target", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_sixteen_bits_come_and_go_exactly(tmp_path: Path, source: str, target: str, alpha: bool) -> None:
    values = np.dstack([DEEP, ALPHA]) if alpha else DEEP
    if source == ".png":
        (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(values))
    else:
        extra = ["unassalpha"] if alpha else None
        tifffile.imwrite(tmp_path / "in.tif", values, photometric="rgb", extrasamples=extra)
    picture = read_image(tmp_path / f"in{source}")
    assert picture.depth == 16
    assert picture.rgb.dtype == torch.float32
    write_image(tmp_path / f"out{target}", picture)
    np.testing.assert_array_equal(written(tmp_path / f"out{target}"), values)
    with Image.open(tmp_path / f"out{target}") as image:  # a file that Pillow too can read
        image.load()
        assert image.size == (34, 21)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_other_kinds_take_eight_of_them(tmp_path: Path, suffix: str) -> None:
    picture = Picture(draw(24, 32, roughness=0), depth=16)
    write_image(tmp_path / f"out{suffix}", picture)
    assert read_image(tmp_path / f"out{suffix}").depth == 8


def test_eight_bits_stay_eight(tmp_path: Path) -> None:
    picture = Picture(draw(24, 32), torch.arange(24 * 32).reshape(24, 32).to(torch.uint8))
    for suffix in (".png", ".tif"):
        write_image(tmp_path / f"out{suffix}", picture)
        found = written(tmp_path / f"out{suffix}")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found[..., 3], picture.alpha)
        np.testing.assert_array_equal(found[..., :3], (picture.rgb[0] * 255).round().permute(1, 2, 0))


@pytest.mark.parametrize("compression", ["none", "lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_by_other_programs(tmp_path: Path, compression: str, order: Any) -> None:
    how: Any = {"compression": compression, "predictor": compression in ("lzw", "zlib", "zstd")}
    tifffile.imwrite(tmp_path / "in.tif", DEEP, photometric="rgb", byteorder=order, **how)
    np.testing.assert_array_equal(as_array(read_image(tmp_path / "in.tif")), DEEP)


def test_tiff_in_planes_tiles_and_several_pages(tmp_path: Path) -> None:
    planes = np.ascontiguousarray(np.moveaxis(DEEP, -1, 0))
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "tiles.tif", DEEP, photometric="rgb", tile=(16, 16), bigtiff=True)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        file.write(DEEP, photometric="rgb")
        file.write(DEEP[::-1], photometric="rgb")
    for name in ("planes", "tiles", "pages"):
        np.testing.assert_array_equal(as_array(read_image(tmp_path / f"{name}.tif")), DEEP)


def test_grey_of_sixteen_bits_becomes_rgb_of_sixteen(tmp_path: Path) -> None:
    grey = DEEP[..., 0].copy()
    (tmp_path / "grey.png").write_bytes(imagecodecs.png_encode(grey))
    (tmp_path / "la.png").write_bytes(imagecodecs.png_encode(np.dstack([grey, ALPHA])))
    tifffile.imwrite(tmp_path / "grey.tif", grey)
    tifffile.imwrite(tmp_path / "white.tif", 65535 - grey, photometric="miniswhite")
    for name in ("grey.png", "la.png", "grey.tif", "white.tif"):
        picture = read_image(tmp_path / name)
        np.testing.assert_array_equal(as_array(picture), np.repeat(grey[..., None], 3, axis=-1))
        assert (picture.depth, picture.alpha is not None) == (16, name == "la.png")
    with Image.open(tmp_path / "grey.png") as image:
        assert torch.equal(from_pil(image).rgb, read_image(tmp_path / "grey.png").rgb)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_of_three_channels(tmp_path: Path, top: float, kind: type) -> None:
    if kind is np.float16 and top > 60_000:
        top = 60_000.0  # which float16 has; it is read as of 65535
    values = (DEEP / 65535 * top).astype(kind)
    values[0, :3, 0] = [np.nan, np.inf, -np.inf]
    tifffile.imwrite(tmp_path / "in.tif", values, photometric="rgb")
    picture = read_image(tmp_path / "in.tif")
    assert list(picture.rgb[0, 0, 0, :3]) == [0, 1, 0]
    whole = 65535.0 if top > 255 else top
    np.testing.assert_allclose(
        picture.rgb[0, :, 1:].permute(1, 2, 0), values[1:].astype(np.float64) / whole, atol=0.6 / 65535
    )
    assert picture.depth == 16


def test_all_nan_is_black(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", np.full((20, 20, 3), np.nan, np.float32), photometric="rgb")
    assert not read_image(tmp_path / "in.tif").rgb.any()


def test_whole_numbers_of_other_sizes(tmp_path: Path) -> None:
    for name, values, top in (
        ("u32", DEEP.astype(np.uint32) * 65537, 2**32 - 1),
        ("i16", (DEEP >> 1).astype(np.int16), 2**15 - 1),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb")
        np.testing.assert_allclose(as_array(read_image(tmp_path / f"{name}.tif")), values / top * 65535, atol=0.51)


def test_premultiplied_alpha_is_taken_out(tmp_path: Path) -> None:
    alpha = np.maximum(ALPHA, 20_000)
    premultiplied = (DEEP.astype(float) * alpha[..., None] / 65535).round().astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "in.tif", np.dstack([premultiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"]
    )
    picture = read_image(tmp_path / "in.tif")
    np.testing.assert_allclose(as_array(picture).astype(int), DEEP, atol=3)
    np.testing.assert_array_equal(picture.alpha, alpha)


def test_alpha_of_sixteen_bits_is_resized(tmp_path: Path) -> None:
    alpha = resize_alpha(torch.full((9, 13), 40_000, dtype=torch.uint16), (20, 29))
    assert torch.equal(alpha.to(torch.int32), torch.full((20, 29), 40_000, dtype=torch.int32))
    picture = Picture(draw(20, 29), alpha, depth=16)
    write_image(tmp_path / "out.png", picture)
    assert written(tmp_path / "out.png").dtype == np.uint16
    write_image(tmp_path / "out.webp", replace(picture, depth=8))
    with Image.open(tmp_path / "out.webp") as image:
        assert np.array(image)[0, 0, 3] == round(40_000 / 257)


def test_depths() -> None:
    eight = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_depth(eight, 16), eight.astype(int) * 257)
    np.testing.assert_array_equal(to_depth(to_depth(eight, 16), 8), eight)
    sixteen = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_depth(sixteen, 8), np.rint(sixteen / 257))
    assert to_depth(sixteen, 16) is sixteen


def test_long_rows_go_into_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.style_transfer.files import tiff

    monkeypatch.setattr(tiff, "_STRIP", 1000)
    picture = Picture(torch.from_numpy(DEEP.astype(np.float32) / 65535).permute(2, 0, 1)[None], depth=16)
    write_image(tmp_path / "out.tif", picture)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert len(file.pages[0].dataoffsets) > 5
    np.testing.assert_array_equal(written(tmp_path / "out.tif"), DEEP)
