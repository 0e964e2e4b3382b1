"""Colour: from a file's own profile to sRGB for work, and back.

The intent is relative colorimetric with black point compensation, what raw converters and browsers do: a colour that
the other space has comes through as it is, one beyond goes to its edge. Little CMS computes it, in 16 bits and without
the interpolation tables that it would take for speed, so that there and back is exact but for rounding.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import ImageCms

from apps.style_transfer.files.raster import Values

_RELATIVE = 1
_EXACT = 0x2000 | 0x0100  # black point compensation, no optimisation
_BLOCK = 1 << 22
_SPACES = {"RGB": "rgb", "GRAY": "gray", "CMYK": "cmyk"}


@lru_cache(maxsize=1)
def srgb() -> bytes:
    """Return the profile of sRGB."""
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


@lru_cache(maxsize=32)
def kind_of(profile: bytes, space: str) -> str:
    """Return what a profile is to a picture of a space, "RGB", "GRAY" or "CMYK".

    "srgb": no colour differs by more than half an 8-bit level from sRGB, so there is nothing to convert; "both": it
    can be converted from and to; "from": only from; "broken": it is no profile, or that of another space.
    """
    import imagecodecs

    try:
        declared = ImageCms.getOpenProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return "broken"
    if declared != space:
        return "broken"
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    channels = {"RGB": 3, "GRAY": 1, "CMYK": 4}[space]
    cube = np.stack(np.meshgrid(*[steps] * channels), axis=-1).reshape(1, -1, channels)
    try:
        seen = to_srgb(cube if space != "GRAY" else cube[..., 0], profile, space)
    except (imagecodecs.CmsError, ValueError, RuntimeError):
        return "broken"
    if space != "RGB":
        return "from"
    if int(np.abs(seen.astype(int) - cube.astype(int) * 257).max()) <= 128:
        return "srgb"
    try:
        from_srgb(cube, profile, 8)
    except (imagecodecs.CmsError, ValueError, RuntimeError):
        return "from"
    return "both"


def to_srgb(values: Values, profile: bytes, space: str) -> Values:
    """Return values (H, W, C), or (H, W) of grey, of 8 or 16 bits as sRGB (H, W, 3) of 16 bits."""
    return _transform(values, profile, srgb(), _SPACES[space], 16)


def from_srgb(values: Values, profile: bytes, depth: int) -> Values:
    """Return sRGB values (H, W, 3) in the space of an RGB profile, at a depth of 8 or 16 bits."""
    return _transform(values, srgb(), profile, "rgb", depth)


def _transform(values: Values, source: bytes, target: bytes, space: str, depth: int) -> Values:
    import imagecodecs

    kind = np.dtype(f"uint{depth}")
    converted: Values = np.empty((*values.shape[:2], 3), kind)
    rows = max(1, _BLOCK // values.shape[1])
    for top in range(0, values.shape[0], rows):
        converted[top : top + rows] = imagecodecs.cms_transform(
            np.ascontiguousarray(values[top : top + rows]),
            source,
            target,
            colorspace=space,
            outcolorspace="rgb",
            outdtype=kind,
            intent=_RELATIVE,
            flags=_EXACT,
        )
    return converted
