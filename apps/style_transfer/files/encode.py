"""Writing: a :class:`Raster` as a file of the kind that the suffix says, with what went with it."""

from __future__ import annotations

import io
import logging
import os
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from apps.style_transfer.files import exif, icc, metadata
from apps.style_transfer.files.decode import quiet
from apps.style_transfer.files.formats import Format, format_of
from apps.style_transfer.files.raster import ImageError, Metadata, Raster, Values, to_depth
from apps.style_transfer.files.writing import check_place, writing

log = logging.getLogger(__name__)

_MARKER = 65_000  # bytes that a segment of a JPEG holds, but for its heading


def check_output(path: Path, *, inputs: Iterable[Path] = (), overwrite: bool = True) -> None:
    """Raise :class:`ImageError` now, before any work, if a picture could not or should not be written to the path.

    It should not where the path is one of the ``inputs``, by whatever name, or, without ``overwrite``, exists.
    """
    if not path.is_dir():
        format_of(path).require()
    check_place(
        path,
        example="out.png",
        inputs=inputs,
        overwrite=overwrite,
        otherwise="say --overwrite or --skip-existing",
        fault=ImageError,
    )
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:100]}.partial-")
    except OSError as error:
        raise ImageError(f"cannot write into {path.parent} ({error.strerror}): choose another folder") from None
    os.close(handle)
    os.unlink(beside)


def write_raster(path: Path, raster: Raster) -> None:
    """Write a picture: beside the path first and then renamed, never half a file.

    The colours go back into the file's own profile, which is embedded. PNG and TIFF have 16 bits where
    ``metadata.depth`` is 16. JPEG, WebP, HEIC and AVIF have quality 95, without chroma subsampling where the format
    knows how. JPEG and BMP have no alpha; GIF and BMP no metadata.

    Raises:
        ImageError: in one line, where it cannot be written.
    """
    check_output(path)
    kind = format_of(path)
    height, width = raster.values.shape[:2]
    if kind.longest is not None and max(width, height) > kind.longest:
        raise ImageError(
            f"a {kind.name} picture has at most {kind.longest} pixels on a side, {path} would have {width} x {height}: "
            "choose .png or .tif"
        )
    depth = raster.metadata.depth if kind.deep else 8
    notes = fitted(raster.metadata, kind, width, height)
    values = in_profile(raster.values, notes.icc_profile, depth)
    alpha = None if raster.alpha is None or not kind.alpha else to_depth(raster.alpha, depth)
    with writing(path, suffix=path.suffix.lower(), fault=ImageError) as beside:
        if kind.name == "TIFF":
            from apps.style_transfer.files import tiff

            tiff.write(beside, values, alpha, notes)
        elif depth == 16:
            _write_deep_png(beside, values, alpha, notes)
        else:
            save(to_image(values, alpha), beside, format=kind.name, **kind.settings, **noted(kind, notes))


def save(image: Image.Image, path: Path, **settings: Any) -> None:
    """Write a picture by Pillow, by way of memory: a disk that fills up under its own hands may go unnoticed."""
    encoded = io.BytesIO()
    with quiet():
        image.save(encoded, **settings)
    path.write_bytes(encoded.getbuffer())


def in_profile(values: Values, profile: bytes | None, depth: int) -> Values:
    """Return sRGB values in the space of a profile, at a depth of 8 or 16 bits."""
    kind = "srgb" if profile is None else icc.kind_of(profile, "RGB")
    if profile is None or kind == "srgb":
        return to_depth(values, depth)
    return icc.from_srgb(values, profile, depth)


def fitted(notes: Metadata, kind: Format, width: int, height: int) -> Metadata:
    """Return the notes that a kind of file can hold, with the size of the picture in them."""
    profile = notes.icc_profile
    if profile is not None and icc.kind_of(profile, "RGB") not in ("srgb", "both"):
        profile = None
    if not kind.metadata:
        return Metadata(dpi=notes.dpi, depth=notes.depth)
    block = None if notes.exif is None else exif.sized(notes.exif, width, height)
    xmp = None if notes.xmp is None else metadata.xmp_sized(metadata.upright(notes.xmp), width, height)
    if kind.name == "JPEG":
        block, xmp = _in_a_marker("EXIF", block), _in_a_marker("XMP", xmp)
    if kind.name == "AVIF" and block is not None:
        block = exif.without_orientation(block)
    return replace(notes, icc_profile=profile, exif=block, xmp=xmp)


def _in_a_marker(name: str, data: bytes | None) -> bytes | None:
    if data is None or len(data) <= _MARKER:
        return data
    log.warning("the %s data are too long for a JPEG file and are left out", name)
    return None


def to_image(values: Values, alpha: Values | None) -> Image.Image:
    """Return 8-bit values, and alpha, as a picture of Pillow's."""
    image = Image.fromarray(values)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


def noted(kind: Format, notes: Metadata) -> dict[str, Any]:
    """Return the notes as Pillow's settings for saving."""
    settings: dict[str, Any] = {}
    if notes.dpi is not None and kind.name in ("JPEG", "PNG", "BMP"):
        settings["dpi"] = notes.dpi
    if not kind.metadata:
        return settings
    if notes.icc_profile is not None:
        settings["icc_profile"] = notes.icc_profile
    if notes.exif is not None:
        settings["exif"] = notes.exif
    if notes.xmp is not None and kind.name == "PNG":
        settings["pnginfo"] = PngImagePlugin.PngInfo()
        settings["pnginfo"].add_itxt("XML:com.adobe.xmp", notes.xmp.decode("utf-8", "replace"))
    elif notes.xmp is not None:
        settings["xmp"] = notes.xmp
    return settings


def _write_deep_png(path: Path, values: Values, alpha: Values | None, notes: Metadata) -> None:
    """Write 16 bits: the pixels by libpng, the notes as Pillow writes them beside a picture of one pixel."""
    import imagecodecs

    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, "PNG", **noted(format_of(path), notes))
    encoded = imagecodecs.png_encode(values if alpha is None else np.dstack([values, alpha]), 6)
    after_header = 8 + 25  # the signature, and IHDR
    with path.open("wb") as file:
        file.write(encoded[:after_header])
        for name, content in _chunks(small.getvalue()):
            if name not in (b"IHDR", b"IDAT", b"IEND"):
                file.write(len(content).to_bytes(4, "big") + name + content)
                file.write(zlib.crc32(name + content).to_bytes(4, "big"))
        file.write(encoded[after_header:])


def _chunks(png: bytes) -> Iterable[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length
