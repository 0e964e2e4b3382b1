"""Reading, resizing and writing pictures the way a photographer expects, as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from apps.style_transfer.files.decode import raster_of, read_raster
from apps.style_transfer.files.encode import check_output, write_raster
from apps.style_transfer.files.formats import IMAGE_SUFFIXES
from apps.style_transfer.files.raster import MAX_PIXELS, ImageError, Metadata, Raster

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "SMALLEST_SIDE",
    "ImageError",
    "Metadata",
    "Picture",
    "Raster",
    "check_output",
    "from_pil",
    "read_image",
    "resize",
    "resize_alpha",
    "resized",
    "to_pil",
    "write_image",
]

SMALLEST_SIDE = 16


@dataclass(frozen=True)
class Picture:
    """A picture with what goes with its pixels; ``dataclasses.replace(picture, rgb=...)`` keeps that.

    Attributes:
        rgb: (1, 3, H, W) float32 in [0, 1], sRGB.
        alpha: (H, W) uint8, or uint16 in a picture of 16 bits; not premultiplied.
        icc_profile: the RGB profile the file was in, and is to be written in; None is sRGB.
        exif: an EXIF block, upright and without the thumbnail. Size and orientation are set right when it is written.
        xmp: an XMP packet, likewise.
        dpi: resolution, horizontal and vertical.
        depth: bits of each channel in the file, 8 or 16.
    """

    rgb: Tensor
    alpha: Tensor | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    depth: int = 8

    @staticmethod
    def of(raster: Raster) -> Picture:
        """Return whole numbers as a tensor, float32."""
        top = np.iinfo(raster.values.dtype).max
        rgb = torch.from_numpy(np.ascontiguousarray(raster.values.transpose(2, 0, 1)))[None].float().div_(top)
        alpha = None if raster.alpha is None else torch.from_numpy(raster.alpha)
        return Picture(rgb, alpha, **vars(raster.metadata))

    def raster(self) -> Raster:
        """Return the tensor, clipped to [0, 1], as whole numbers: of 8 bits if no more are needed, else of 16."""
        kind = np.uint8 if self.depth == 8 and self.icc_profile is None else np.uint16
        rgb = self.rgb.detach().reshape(self.rgb.shape[-3:])
        values = np.empty((*rgb.shape[1:], 3), kind)
        for c, channel in enumerate(rgb):  # one at a time: of a large picture there is no room for a second copy
            values[..., c] = (channel.cpu().float().clamp(0, 1) * np.iinfo(kind).max).round().numpy()
        alpha = None if self.alpha is None else self.alpha.cpu().numpy()
        notes = Metadata(icc_profile=self.icc_profile, exif=self.exif, xmp=self.xmp, dpi=self.dpi, depth=self.depth)
        return Raster(values, alpha, notes)


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture, upright and in sRGB; see :func:`read_raster` for what is done and what is raised."""
    return Picture.of(read_raster(path, max_pixels=max_pixels))


def from_pil(image: Image.Image) -> Picture:
    """Return a picture of Pillow's as :func:`read_image` would have read it from its file."""
    return Picture.of(raster_of(image))


def write_image(path: Path, picture: Picture) -> None:
    """Write a picture, whole or not at all; see :func:`write_raster` for what is kept and what is raised."""
    write_raster(path, picture.raster())


def resize(image: Tensor, longest: int) -> Tensor:
    """Return an image (B, 3, H, W) in [0, 1] with its longest side scaled to ``longest``, proportions kept."""
    if max(image.shape[-2:]) == longest:
        return image
    return interpolate(image, resized(image, longest), mode="bicubic", antialias=True).clamp(0, 1)


def resized(image: Tensor, longest: int) -> tuple[int, int]:
    """Return height and width of an image (B, 3, H, W) whose longest side is scaled to ``longest``."""
    h, w = image.shape[-2:]
    scale = longest / max(h, w)
    return max(1, round(h * scale)), max(1, round(w * scale))


def resize_alpha(alpha: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Return an alpha channel (H, W), uint8 or uint16, at another size."""
    if alpha.shape == torch.Size(size):
        return alpha
    resized = interpolate(alpha[None, None].float(), tuple(size), mode="bilinear", antialias=True)
    return resized[0, 0].round().to(alpha.dtype)


def to_pil(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) or (1, 3, H, W), clipped to [0, 1], as an 8-bit picture."""
    image = image.detach().reshape(image.shape[-3:]).float().clamp(0, 1)
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())
