"""A picture in memory as whole numbers, with what its file said beside the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 160_000_000
"""Larger pictures are refused by their header, before a pixel is decoded; the largest single shots have 151 million."""

Values = NDArray[Any]


class ImageError(ValueError):
    """A picture that cannot be read or written; the message is one line for the user."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What goes with the pixels from file to file.

    Attributes:
        icc_profile: the RGB profile the file was in, and is to be written in; None is sRGB.
        exif: an EXIF block, beginning with ``Exif\\0\\0``: upright, without the thumbnail.
        xmp: an XMP packet.
        dpi: resolution, horizontal and vertical.
        depth: bits of each channel in the file, 8 or 16.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    depth: int = 8


@dataclass(frozen=True)
class Raster:
    """A picture: ``values`` (H, W, 3) uint8 or uint16, sRGB; ``alpha`` (H, W) uint8 or uint16, not premultiplied.

    Values are uint16 where the file has 16 bits and where they were converted from another colour space, for there
    8 bits would lose some; ``metadata.depth`` is that of the file.
    """

    values: Values
    alpha: Values | None = None
    metadata: Metadata = field(default_factory=Metadata)


def to_depth(values: Values, depth: int) -> Values:
    """Return values of 8 or 16 bits at a depth of 8 or 16 bits: v 257 upwards, round(v / 257) downwards."""
    if values.dtype.itemsize * 8 == depth:
        return values
    if depth == 16:
        return values.astype(np.uint16) * np.uint16(257)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
