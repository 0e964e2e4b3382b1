"""Pixels as they are in a file, of whatever mode, as whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from apps.style_transfer.files.raster import Values


@dataclass(frozen=True)
class Decoded:
    """Pixels as they are in the file: ``space`` "RGB" or "CMYK", (H, W, 3 or 4), or "GRAY", (H, W)."""

    values: Values
    alpha: Values | None
    space: str


def from_pillow(image: Image.Image) -> Decoded:
    """Return the pixels of a picture of 8 bits."""
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA")
        alpha = np.array(image.getchannel("A"))
        image = image.convert(image.mode[:-1])
    if image.mode in ("1", "L"):
        return Decoded(np.array(image.convert("L")), alpha, "GRAY")
    if image.mode == "CMYK":
        return Decoded(np.array(image), alpha, "CMYK")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of the kind {image.mode} are not known in this kind of file")
    return Decoded(np.array(image if image.mode == "RGB" else image.convert("RGB")), alpha, "RGB")


def by_channels(values: Values) -> Decoded:
    """Return pixels (H, W) or (H, W, 1 to 4) as what that number of channels means."""
    channels = values.shape[2] if values.ndim == 3 else 1
    alpha = values[..., -1] if channels in (2, 4) else None
    if channels > 2:
        return Decoded(values[..., :3], alpha, "RGB")
    return Decoded(values[..., 0] if values.ndim == 3 else values, alpha, "GRAY")


def as_uint16(values: Values, bits: int = 16) -> Values:
    """Return deep pixels as uint16: whole numbers of ``bits`` bits, or floats, scaled; NaN is 0."""
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=np.inf, neginf=0.0)
        high = float(np.quantile(finite.ravel()[:: max(1, finite.size // 1_000_000)], 0.99))
        top = next((t for t in (1.0, 255.0) if high <= t), 65535.0)
        scaled: Values = np.rint(np.clip(finite / top, 0, 1) * 65535).astype(np.uint16)
        return scaled
    if values.dtype == np.uint16 and bits == 16:
        return values
    if values.dtype.kind not in "iu":
        raise ValueError(f"pixels of the kind {values.dtype} are not known")
    whole: Values = np.rint(np.clip(values / ((1 << bits) - 1), 0, 1) * 65535).astype(np.uint16)
    return whole


def without_inks(values: Values) -> Values:
    """Return CMYK without a profile as ideal inks: (1 - c) (1 - k)."""
    top = np.iinfo(values.dtype).max
    left = (top - values).astype(np.uint64)
    mixed: Values = ((left[..., :3] * left[..., 3:] + top // 2) // top).astype(values.dtype)
    return mixed
