"""EXIF, GPS, XMP and resolution, from file to file."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, PngImagePlugin
from style_helpers import draw

from apps.style_transfer.files import exif
from apps.style_transfer.files.images import Picture, read_image, resize, to_pil, write_image

MAKER_NOTE = b"CAMERA\0" + bytes(range(200))
THUMBNAIL = b"\xff\xd8 a small picture of the original \xff\xd9"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    b'tiff:Orientation="6" tiff:ImageWidth="999" xmp:Rating="4"/></rdf:RDF></x:xmpmeta>'
)
WRITABLE = [".jpg", ".png", ".webp", ".tif", ".heic", ".avif"]
KEPT = {
    0x010F: "Maker",
    0x0110: "Model",
    0x0132: "2020:02:03 04:05:06",
    0x013B: "ZoÃ«",  # as Pillow reads UTF-8
    0x8298: "all mine",
}


def camera_block(order: str = "<", *, thumbnail: bool = True) -> bytes:
    """Return an EXIF block as a camera writes it: turned, with the maker's notes, GPS and a thumbnail."""

    def text(value: str) -> tuple[int, int, bytes]:
        data = value.encode("latin-1") + b"\0"
        return 2, len(data), data

    def number(kind: int, *values: int) -> tuple[int, int, bytes]:
        form = {3: "H", 4: "I"}[kind]
        return kind, len(values), struct.pack(f"{order}{len(values)}{form}", *values)

    def rational(*values: int) -> tuple[int, int, bytes]:
        return 5, len(values) // 2, struct.pack(f"{order}{len(values)}I", *values)

    first = {tag: text(value) for tag, value in KEPT.items()}
    first |= {0x0112: number(3, 6), 0x011A: rational(300, 1), 0x011B: rational(300, 1), 0x0128: number(3, 2)}
    camera = {
        0x829A: rational(1, 200),
        0x9003: text("2020:02:03 04:05:06"),
        0x927C: (7, len(MAKER_NOTE), MAKER_NOTE),
        0xA002: number(4, 999),
        0xA003: number(3, 888),
    }
    place = {1: text("N"), 2: rational(48, 1, 51, 1, 296, 10), 3: text("E"), 4: rational(2, 1, 17, 1, 402, 10)}
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    body = bytearray(head + exif.with_parts(first, {exif.EXIF: camera, exif.GPS: place}, 8, order))
    if thumbnail:
        at = len(body)
        second = {0x0103: number(3, 6), 0x0201: number(4, 0), 0x0202: number(4, len(THUMBNAIL))}
        end = at + len(exif.write(second, at, order))
        second[0x0201] = number(4, end)
        struct.pack_into(order + "I", body, 8 + 2 + 12 * (len(first) + 2), at)
        body += exif.write(second, at, order) + THUMBNAIL
    return exif.PREFIX + bytes(body)


def sample(path: Path, block: bytes) -> Path:
    """Write a picture of 48 x 32 as it is stored, 32 x 48 upright, with a block and an XMP packet."""
    options: dict[str, object] = {"exif": block, "xmp": XMP}
    if path.suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())  # type: ignore[attr-defined]
    if path.suffix == ".avif":  # Pillow would lose what is not ASCII on the way
        to_pil(draw(32, 48)).rotate(-90, expand=True).save(path, xmp=XMP, exif=exif.without_orientation(block))
        return path
    if path.suffix == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    to_pil(draw(32, 48)).save(path, **options)  # type: ignore[arg-type]
    return path


def check(path: Path, size: tuple[int, int]) -> None:
    """Check, by Pillow alone, that a written picture says what it should."""
    if path.suffix == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    with Image.open(path) as image:
        found = image.getexif()
        assert image.size == size
        assert {tag: found.get(tag) for tag in KEPT} == KEPT
        assert found.get(0x0112, 1) == 1
        camera = found.get_ifd(ExifTags.IFD.Exif)
        assert (camera[0x829A], camera[0x9003], camera[0x927C]) == (1 / 200, "2020:02:03 04:05:06", MAKER_NOTE)
        assert (camera[0xA002], camera[0xA003]) == size
        place = found.get_ifd(ExifTags.IFD.GPSInfo)
        assert (place[1], place[2], place[3], place[4]) == ("N", (48, 51, 29.6), "E", (2, 17, 40.2))
        assert not found.get_ifd(ExifTags.IFD.IFD1)
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
        packet = packet.encode() if isinstance(packet, str) else packet
        assert b'xmp:Rating="4"' in packet
        assert b'tiff:Orientation="6"' not in packet
        assert f'tiff:ImageWidth="{size[0]}"'.encode() in packet
    assert THUMBNAIL not in path.read_bytes()


@pytest.mark.parametrize("target", WRITABLE)
@pytest.mark.parametrize("source", [".jpg", ".png", ".webp", ".heic", ".avif"])
def test_metadata_go_from_any_kind_to_any(tmp_path: Path, source: str, target: str) -> None:
    order = "<" if target in (".jpg", ".tif") else ">"
    picture = read_image(sample(tmp_path / f"in{source}", camera_block(order)))
    assert picture.rgb.shape == (1, 3, 48, 32)
    assert picture.dpi == (300, 300)
    out = tmp_path / f"out{target}"
    write_image(out, replace(picture, rgb=resize(picture.rgb, 24)))
    check(out, (16, 24))
    # Once more, from what we have written: through TIFF as well.
    again = tmp_path / f"again{source}"
    write_image(again, read_image(out))
    check(again, (16, 24))


@pytest.mark.parametrize("depth", [8, 16])
def test_resolution(tmp_path: Path, depth: int) -> None:
    picture = Picture(draw(20, 30), dpi=(240.0, 120.0), depth=depth)
    for suffix in (".jpg", ".png", ".tif", ".bmp"):
        write_image(tmp_path / f"out{suffix}", picture)
        assert read_image(tmp_path / f"out{suffix}").dpi == pytest.approx((240, 120), rel=1e-3)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].tags["XResolution"].value == (240_000, 1000)  # type: ignore[union-attr]
    tifffile.imwrite(
        tmp_path / "metric.tif", np.zeros((4, 4), np.uint16), resolution=(100, 100), resolutionunit="CENTIMETER"
    )
    assert read_image(tmp_path / "metric.tif").dpi == (254, 254)


def test_the_makers_notes_stay_where_they_were() -> None:
    """They hold places within the block, which would be wrong if they were moved."""
    block = camera_block()
    kept = exif.tidy(block)
    assert kept is not None
    kept = exif.sized(kept, 70_000, 20)
    assert kept.index(MAKER_NOTE) == block.index(MAKER_NOTE)
    found = Image.Exif()
    found.load(kept)
    assert found.get_ifd(ExifTags.IFD.Exif)[0xA002] == 70_000
    assert THUMBNAIL not in kept
    assert len(kept) == len(block) - len(THUMBNAIL)


@pytest.mark.parametrize("cut", [7, 12, 20, 60, 200])
def test_a_damaged_block_is_left_out_and_told(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    path = sample(tmp_path / "in.jpg", camera_block()[:cut])
    picture = read_image(path)
    write_image(tmp_path / "out.jpg", picture)
    assert read_image(tmp_path / "out.jpg").rgb.shape == picture.rgb.shape
    assert picture.exif is None or cut == 200


def test_what_does_not_fit_into_a_jpeg_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    block = camera_block(thumbnail=False) + bytes(70_000)
    write_image(tmp_path / "out.jpg", Picture(draw(20, 30), exif=block, xmp=XMP + b" " * 70_000))
    assert [record.getMessage() for record in caplog.records] == [
        "the EXIF data are too long for a JPEG file and are left out",
        "the XMP data are too long for a JPEG file and are left out",
    ]
    write_image(tmp_path / "out.png", Picture(draw(20, 30), exif=block))
    assert read_image(tmp_path / "out.png").exif is not None


def test_a_block_from_elsewhere_does_not_turn_the_picture(tmp_path: Path) -> None:
    for suffix in WRITABLE:
        write_image(tmp_path / f"out{suffix}", Picture(draw(20, 30), exif=camera_block(), xmp=XMP))
        assert read_image(tmp_path / f"out{suffix}").rgb.shape == (1, 3, 20, 30)


def test_a_turned_tiff_comes_upright_in_both_depths(tmp_path: Path) -> None:
    stored = (np.arange(20 * 30 * 3).reshape(20, 30, 3) * 36).astype(np.uint16)
    for depth in (8, 16):
        values = stored if depth == 16 else (stored >> 8).astype(np.uint8)
        path = tmp_path / f"{depth}.tif"
        tifffile.imwrite(path, values, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
        found = (read_image(path).rgb[0] * (2**depth - 1)).round().permute(1, 2, 0)
        assert torch.equal(found, torch.from_numpy(np.rot90(values, -1).astype(np.float32)))
