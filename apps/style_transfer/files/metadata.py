"""What stands in a file beside the pixels: EXIF, XMP, profile, resolution; upright, and of the size of the picture."""

from __future__ import annotations

import logging
import re
from typing import Any

from PIL import Image

from apps.style_transfer.files import exif
from apps.style_transfer.files.raster import Metadata

log = logging.getLogger(__name__)

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_CENTIMETRES = 3
# Entries that need no EXIF block: XMP may say the orientation, and a TIFF has all of these by itself.
_SAID_ELSEWHERE = {*range(254, 300), 317, 320, *range(322, 326), 338, 339, 700, 34675}


def notes_of(name: str, image: Image.Image) -> Metadata:
    """Return what stands beside the pixels of an opened picture."""
    try:
        found = image.getexif()
        block = _block(image, found)
        damaged = block is None and bool(set(found) - _SAID_ELSEWHERE)
    except Exception:  # whatever Pillow says of a damaged block: the picture is good without it
        found, block, damaged = Image.Exif(), None, True
    if damaged:
        log.warning("%s: its EXIF data are damaged and are left out", name)
    icc_profile, xmp = image.info.get("icc_profile"), image.info.get("xmp", image.info.get("XML:com.adobe.xmp"))
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return Metadata(
        icc_profile=icc_profile if isinstance(icc_profile, bytes) and icc_profile else None,
        exif=block,
        xmp=upright(xmp) if isinstance(xmp, bytes) and xmp else None,
        dpi=plausible(image.info.get("dpi")) or dpi_of(found),
    )


def _block(image: Image.Image, found: Image.Exif) -> bytes | None:
    block = image.info.get("exif")
    if isinstance(block, bytes):
        return exif.tidy(block)
    raw = image.info.get("Raw profile type exif")  # ImageMagick's way in older PNG
    if isinstance(raw, str):
        return exif.tidy(bytes.fromhex("".join(raw.split("\n")[3:])))
    if hasattr(image, "tag_v2") and image.fp is not None:  # type: ignore[attr-defined]
        return exif.from_tiff(found.fp, image.tag_v2.offset, found.endian or "<", big=found.bigtiff)
    return None


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it means nothing."""
    found = Image.Exif()
    try:
        if image.format == "AVIF":  # to which XMP, where Pillow looks too, says nothing
            found.load(image.info.get("exif", b""))
        else:
            found = image.getexif()
        return valid_orientation(found.get(_ORIENTATION, 1))
    except Exception:  # as above
        return 1


def valid_orientation(value: Any) -> int:
    """Return an orientation, or 1 for what is none."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def dpi_of(found: Image.Exif) -> tuple[float, float] | None:
    """Return the resolution that EXIF entries say."""
    dpi = plausible((found.get(_X_RESOLUTION), found.get(_Y_RESOLUTION)))
    if dpi is None or found.get(_UNIT, 2) != _CENTIMETRES:
        return dpi
    return plausible((2.54 * dpi[0], 2.54 * dpi[1]))


def upright(xmp: bytes) -> bytes:
    """Return an XMP packet with orientation 1."""
    return re.sub(rb'(tiff:Orientation(?:="|>))[0-9]', rb"\g<1>1", xmp)


def xmp_sized(xmp: bytes, width: int, height: int) -> bytes:
    """Return an XMP packet with the size of its picture in it, where it had one."""
    for names, value in (
        (rb"tiff:ImageWidth|exif:PixelXDimension", width),
        (rb"tiff:ImageLength|exif:PixelYDimension", height),
    ):
        xmp = re.sub(rb"((?:" + names + rb')(?:="|>))[0-9]+', rb"\g<1>%d" % value, xmp)
    return xmp


def plausible(dpi: Any) -> tuple[float, float] | None:
    """Return a resolution if it is one: two numbers from 2 to 65535 dots an inch (1 means none)."""
    try:
        x, y = (float(v) for v in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 2 <= x <= 65535 and 2 <= y <= 65535 else None
