"""Files that are wrong: a good picture or one clear line, whatever the bytes; and sizes known before decoding."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from style_helpers import draw
from test_files_metadata import XMP, camera_block

from apps.style_transfer.files.clips import read_clip
from apps.style_transfer.files.decode import size_of
from apps.style_transfer.files.formats import FORMATS, recognised
from apps.style_transfer.files.images import ImageError, Picture, read_image, to_pil, write_image

VICTIMS = ["jpg", "png", "deep.png", "webp", "tif", "deep.tif", "gif", "bmp", "heic", "avif", "palette.png", "clip.gif"]


def victim(path: Path) -> Path:
    """Write a good picture, with all that goes with it, to be damaged."""
    picture = Picture(draw(24, 32), exif=camera_block(), xmp=XMP, dpi=(300, 300))
    if path.name.endswith("palette.png"):
        to_pil(picture.rgb).quantize(16).save(path, transparency=3)
    elif path.name.endswith("clip.gif"):
        frames = [to_pil(draw(24, 32, phase=p)) for p in range(3)]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    else:
        depth = 16 if "deep" in path.name else 8
        write_image(path, Picture(picture.rgb, exif=picture.exif, xmp=XMP, dpi=picture.dpi, depth=depth))
    return path


def mutated(whole: bytes, generator: random.Random) -> bytes:
    kind = generator.choice(["cut", "bits", "bits", "block", "swap", "grow"])
    data = bytearray(whole)
    if kind == "cut":
        return bytes(data[: generator.randrange(1, len(data))])
    if kind == "bits":
        # Half of them in the first 600 bytes, where sizes, offsets and kinds are.
        for _ in range(generator.randrange(1, 12)):
            end = min(600, len(data)) if generator.random() < 0.5 else len(data)
            data[generator.randrange(end)] ^= 1 << generator.randrange(8)
    elif kind == "block":
        at = generator.randrange(len(data))
        data[at : at + 8] = generator.randbytes(8)
    elif kind == "swap":
        at, length = generator.randrange(len(data)), generator.randrange(1, 64)
        data[at : at + length] = reversed(data[at : at + length])
    else:
        at = generator.randrange(len(data))
        data[at:at] = generator.randbytes(generator.randrange(1, 200))
    return bytes(data)


@pytest.mark.parametrize("name", VICTIMS)
def test_damaged_files_give_a_picture_or_one_line(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = victim(tmp_path / f"whole.{name}").read_bytes()
    generator = random.Random(name)
    path = tmp_path / f"bad.{name}"
    said: list[str] = []
    for _ in range(60):
        path.write_bytes(mutated(whole, generator))
        try:
            picture = read_image(path, max_pixels=1_000_000)
            assert picture.rgb.isfinite().all()
            write_image(tmp_path / f"out.{name}", picture)
            if name.endswith("gif"):
                clip = read_clip(path, max_pixels=1_000_000)
                assert clip is None or len(list(clip)) == clip.frames
        except ImageError as error:
            said.append(str(error))
    assert said
    for line in said:
        assert "\n" not in line
        assert len(line) < 400
        assert str(path) in line
    assert capfd.readouterr() == ("", "")  # nor do the decoders say anything by themselves


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that says it has such a size, and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def bombs(folder: Path) -> list[Path]:
    """Return small files that say they are huge, of several kinds."""
    (folder / "bomb.png").write_bytes(png_header(60_000, 60_000))
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, "GIF")
    gif = bytearray(buffer.getvalue())
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    (folder / "bomb.gif").write_bytes(gif)
    Image.new("RGB", (16, 16)).save(folder / "bomb.bmp")
    bmp = bytearray((folder / "bomb.bmp").read_bytes())
    bmp[18:26] = struct.pack("<ii", 65_000, 65_000)
    (folder / "bomb.bmp").write_bytes(bmp)
    for name, kind in (("bomb.tif", np.uint8), ("deep.tif", np.uint16)):
        tifffile.imwrite(folder / name, np.zeros((16, 16, 3), kind), photometric="rgb")
        with tifffile.TiffFile(folder / name, mode="r+b") as file:
            tags: Any = file.pages[0].tags  # type: ignore[union-attr]
            tags[256].overwrite(70_000)
            tags[257].overwrite(70_000)
    jpeg = io.BytesIO()
    Image.new("RGB", (16, 16)).save(jpeg, "JPEG")
    data = bytearray(jpeg.getvalue())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    (folder / "bomb.jpg").write_bytes(data)
    return sorted(folder.glob("*.*"))


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    found = bombs(tmp_path)
    assert len(found) == 6
    for path in found:
        with pytest.raises(ImageError, match=r"has \d+ x \d+ pixels, more than 160 million: .*--max-megapixels"):
            read_image(path)


def test_the_limit_is_an_argument(tmp_path: Path) -> None:
    to_pil(draw(20, 30)).save(tmp_path / "in.png")
    assert read_image(tmp_path / "in.png", max_pixels=600).rgb.shape == (1, 3, 20, 30)
    with pytest.raises(ImageError, match=r"has 30 x 20 pixels, more than 0\.0005\d* million"):
        read_image(tmp_path / "in.png", max_pixels=599)
    frames = [to_pil(draw(20, 30, phase=p)) for p in range(3)]
    frames[0].save(tmp_path / "in.gif", save_all=True, append_images=frames[1:])
    assert read_clip(tmp_path / "in.gif", max_pixels=1800) is not None
    with pytest.raises(ImageError, match="has 3 frames of 30 x 20 pixels, more than"):
        read_clip(tmp_path / "in.gif", max_pixels=1799)


def test_no_limit_of_pillows_own_stands_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    to_pil(draw(20, 30)).save(tmp_path / "in.jpg")
    assert read_image(tmp_path / "in.jpg").rgb.shape == (1, 3, 20, 30)


def test_kinds_go_by_content_and_not_by_name(tmp_path: Path) -> None:
    to_pil(draw(20, 30)).save(tmp_path / "in.png")
    (tmp_path / "in.png").rename(tmp_path / "in.jpg")
    assert read_image(tmp_path / "in.jpg").rgb.shape == (1, 3, 20, 30)
    for name, head in (
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("a.pdf", b"%PDF-1.7\n"),
        ("a.jpg", b"\x80\x04\x95cos\nsystem\n"),
        ("a.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"),
    ):
        (tmp_path / name).write_bytes(head)
        with pytest.raises(ImageError, match="is not a picture that can be read: give a JPEG"):
            read_image(tmp_path / name)


def test_every_kind_is_recognised(tmp_path: Path) -> None:
    for kind in FORMATS:
        path = tmp_path / f"in{kind.suffixes[0]}"
        write_image(path, Picture(draw(20, 30)))
        assert recognised(path.read_bytes()[:64]) is kind


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "in.heic", Picture(draw(20, 30)))
    write_image(tmp_path / "in.avif", Picture(draw(20, 30)))
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    for path in (tmp_path / "in.heic", tmp_path / "out.heic"):
        with pytest.raises(ImageError, match=r"HEIF pictures need pillow-heif: pip install 'unroll-style\[heif\]'"):
            read_image(path) if path.exists() else write_image(path, Picture(draw(20, 30)))
    with pytest.raises(ImageError, match="AVIF pictures need Pillow 11"):
        read_image(tmp_path / "in.avif")


def test_too_long_for_the_kind(tmp_path: Path) -> None:
    long = Picture(torch.zeros(1, 3, 2, 16_390))
    with pytest.raises(
        ImageError, match=r"a WEBP picture has at most 16383 pixels on a side, .* 16390 x 2: choose .png"
    ):
        write_image(tmp_path / "out.webp", long)
    write_image(tmp_path / "out.png", long)


def test_sizes_from_the_header(tmp_path: Path) -> None:
    for name in ("jpg", "png", "deep.png", "webp", "tif", "deep.tif", "gif", "bmp", "heic", "avif"):
        assert size_of(victim(tmp_path / f"in.{name}")) == (32, 24)
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 50_000))
    assert size_of(tmp_path / "bomb.png") == (60_000, 50_000)
    with pytest.raises(ImageError, match="no picture at"):
        size_of(tmp_path / "absent.png")


def test_a_picture_within_a_picture(tmp_path: Path) -> None:
    """What follows the end of a good file is nobody's business."""
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(np.zeros((20, 30, 3), np.uint8)) + b"\xff\xd8\xff" * 50)
    assert read_image(tmp_path / "in.png").rgb.shape == (1, 3, 20, 30)
