"""TIFF of 8 bits and more, which Pillow reads as 8 if at all; and writing it in 8 or 16 bits with all its metadata.

Written by hand, for no library writes 16 bits and EXIF directories into one file: strips compressed by zlib after
horizontal differences, then the directories. (TIFF 6.0, sections 2 and 14; Adobe Photoshop TIFF technical notes.)
"""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from apps.style_transfer.files import exif, metadata
from apps.style_transfer.files.pixels import Decoded, as_uint16
from apps.style_transfer.files.raster import Metadata, Values

log = logging.getLogger(__name__)

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _SEPARATED = 0, 1, 2, 5
_ASSOCIATED, _UNASSOCIATED = 1, 2
_XMP, _ICC = 700, 34675
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 3, 4, 5, 7
_STRIP = 1 << 22
_LARGEST_TILE = 1 << 26  # values


def read(path: Path, check_size: Callable[[int, int], None]) -> tuple[Decoded, Metadata, int] | None:
    """Return the first page of a TIFF, its notes and its orientation; None if it is one for Pillow.

    That is palettes, fewer than 8 bits, and the colours of JPEG and Lab.

    ``check_size(width, height)`` is called before pixels are decoded.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if not isinstance(page, tifffile.TiffPage):
            return None
        check_size(*size(page))
        bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
        photometric = int(page.photometric)
        if bits < 8 or photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _SEPARATED):
            return None
        if page.imagedepth != 1 or page.samplesperpixel > 8:
            raise ValueError(f"{page.samplesperpixel} channels, {page.imagedepth} layers: not a photograph")
        # Room is made for what a tile and a strip are said to take.
        if math.prod(page.chunks) > max(_LARGEST_TILE, math.prod(page.shape)):
            raise ValueError("its tiles are far larger than the picture")
        if len(page.databytecounts) < (parts := math.prod(page.chunked)):
            raise ValueError(f"it has {len(page.databytecounts)} of its {parts} strips or tiles")
        if max(page.databytecounts, default=0) > file.filehandle.size:
            raise ValueError("its strips are longer than the file")
        decoded = _decode(page, bits, photometric)
        order, found = str(file.byteorder), Image.Exif()
        found.endian, found.bigtiff = order, bool(file.is_bigtiff)
        try:
            found.load_from_fp(file.filehandle, page.offset)  # type: ignore[arg-type]
            block = exif.from_tiff(file.filehandle, page.offset, order, big=found.bigtiff)  # type: ignore[arg-type]
            orientation = metadata.valid_orientation(found.get(274, 1))
            dpi = metadata.dpi_of(found)
        except Exception:  # whatever Pillow says of a damaged directory: the picture is good without it
            log.warning("%s: its EXIF data are damaged and are left out", path)
            block, orientation, dpi = None, 1, None
        profile, xmp = (page.tags.valueof(code) for code in (_ICC, _XMP))
        notes = Metadata(
            icc_profile=profile if isinstance(profile, bytes) and profile else None,
            exif=block,
            xmp=metadata.upright(xmp) if isinstance(xmp, bytes) and xmp else None,
            dpi=dpi,
        )
        return decoded, replace(notes, depth=8 * decoded.values.dtype.itemsize), orientation


def size(page: Any) -> tuple[int, int]:
    """Return width and height of a page; ValueError where the file gives anything but one number for each."""
    if not all(isinstance(side, int) for side in (*page.shape, *page.chunks, page.imagewidth, page.imagelength)):
        raise ValueError("its width and height are no numbers")
    return page.imagewidth, page.imagelength


def _decode(page: Any, bits: int, photometric: int) -> Decoded:
    pixels = page.asarray()
    values = pixels
    if pixels.dtype != np.uint8:
        values = as_uint16(pixels, bits - 1 if pixels.dtype.kind == "i" else bits)
    top = int(np.iinfo(values.dtype).max)
    if page.planarconfig == 2 and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 2:
        values = values[..., None]
    channels = {_RGB: 3, _SEPARATED: 4}.get(photometric, 1)
    if values.shape[2] < channels:
        raise ValueError(f"{values.shape[2]} channels are too few for its colours")
    extra = tuple(page.extrasamples)[:1]
    colour, alpha = values[..., :channels], None
    if values.shape[2] > channels and extra in ((_ASSOCIATED,), (_UNASSOCIATED,)):
        alpha = values[..., channels]
        if extra == (_ASSOCIATED,):
            full = colour.astype(np.float64) * top / np.maximum(alpha, 1)[..., None]
            colour = np.clip(np.rint(full), 0, top).astype(values.dtype)
    if photometric == _MIN_IS_WHITE:
        colour = top - colour
    if channels == 1:
        return Decoded(colour[..., 0], alpha, "GRAY")
    return Decoded(colour, alpha, "RGB" if channels == 3 else "CMYK")


def write(path: Path, values: Values, alpha: Values | None, notes: Metadata) -> None:
    """Write values (H, W, 3) of 8 or 16 bits, and alpha, with the notes, strip by strip."""
    order, entries, parts = "<", exif.Entries(), dict[int, exif.Entries]()
    if notes.exif is not None:
        try:
            order, entries, parts = exif.into_tiff(notes.exif)
        except (ValueError, struct.error):
            log.warning("the EXIF data are damaged and are left out")
    height, width = values.shape[:2]
    channels, size = 3 if alpha is None else 4, values.dtype.itemsize
    rows = max(1, _STRIP // (width * channels * size))

    def number(kind: int, *numbers: int) -> tuple[int, int, bytes]:
        return kind, len(numbers), struct.pack(f"{order}{len(numbers)}{'H' if kind == _SHORT else 'I'}", *numbers)

    places, lengths = [], []
    with path.open("wb") as file:
        file.write(bytes(8))
        for top in range(0, height, rows):
            strip = values[top : top + rows]
            if alpha is not None:
                strip = np.dstack([strip, alpha[top : top + rows]])
            strip = np.concatenate([strip[:, :1], strip[:, 1:] - strip[:, :-1]], axis=1)  # modulo 2^8 or 2^16
            packed = zlib.compress(strip.astype(f"{order}u{size}").tobytes(), 6)
            places.append(file.tell())
            lengths.append(len(packed))
            file.write(packed + bytes(len(packed) % 2))
        entries |= {
            256: number(_LONG, width),
            257: number(_LONG, height),
            258: number(_SHORT, *[8 * size] * channels),
            259: number(_SHORT, 8),  # zlib
            262: number(_SHORT, _RGB),
            273: number(_LONG, *places),
            277: number(_SHORT, channels),
            278: number(_LONG, rows),
            279: number(_LONG, *lengths),
            284: number(_SHORT, 1),  # the channels of a pixel side by side
            317: number(_SHORT, 2),  # horizontal differences
        }
        if alpha is not None:
            entries[338] = number(_SHORT, _UNASSOCIATED)
        if notes.dpi is not None:
            for tag, dots in zip((282, 283), notes.dpi, strict=True):
                entries[tag] = (_RATIONAL, 1, struct.pack(order + "II", round(dots * 1000), 1000))
            entries[296] = number(_SHORT, 2)  # an inch
        if notes.icc_profile is not None:
            entries[_ICC] = (_UNDEFINED, len(notes.icc_profile), notes.icc_profile)
        if notes.xmp is not None:
            entries[_XMP] = (_BYTE, len(notes.xmp), notes.xmp)
        at = file.tell()
        file.write(exif.with_parts(entries, parts, at, order))
        file.seek(0)
        file.write((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at))
