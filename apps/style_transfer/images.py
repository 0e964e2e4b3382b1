"""Reading, resizing and writing pictures the way a photographer expects."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from apps.style_transfer.files import replacing

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
SMALLEST_SIDE = 16


class ImageError(ValueError):
    """A picture that cannot be read or written; the message is one line for the user."""


@dataclass(frozen=True)
class Picture:
    """A picture as read: ``rgb`` (1, 3, H, W) float32 in [0, 1], ``alpha`` (H, W) uint8 or None, ICC profile."""

    rgb: Tensor
    alpha: Tensor | None = None
    icc_profile: bytes | None = None


def read_image(path: Path) -> Picture:
    """Read a picture: EXIF orientation applied, grey, palette and CMYK made RGB, 16 bits scaled, alpha kept apart."""
    if path.is_dir():
        raise ImageError(f"{path} is a folder: give the path of a picture")
    if not path.exists():
        raise ImageError(f"no picture at {path}: check the path")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes): export the picture again")
    try:
        with Image.open(path) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not a picture that can be read: give a JPEG, PNG, WebP or TIFF") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path} has too many pixels to be opened safely: make it smaller") from None
    except PermissionError:
        raise ImageError(f"{path} may not be read: check its permissions") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{path} is damaged or cut short ({error}): export the picture again") from None
    return _to_picture(image)


def _to_picture(image: Image.Image) -> Picture:
    icc = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        grey = np.nan_to_num(np.asarray(image).astype(np.float32))
        # Sixteen bits are the rule for these modes; floats are taken as they are if they look like [0, 1].
        top = 1.0 if image.mode == "F" and grey.max(initial=0) <= 1 else 65535.0
        rgb = torch.from_numpy(np.clip(grey / top, 0, 1)).expand(3, -1, -1)
        return Picture(rgb[None].contiguous(), None, None)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "L", "1", "LA"):
        # The profile describes the old colour space, not the RGB made from it.
        icc = None
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = torch.from_numpy(np.array(image.getchannel("A")))
    pixels = np.array(image.convert("RGB"))
    rgb = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    return Picture(rgb[None].contiguous(), alpha, icc)


def resize(image: Tensor, longest: int) -> Tensor:
    """Return an image (B, 3, H, W) in [0, 1] with its longest side scaled to ``longest``, proportions kept."""
    h, w = image.shape[-2:]
    if max(h, w) == longest:
        return image
    scale = longest / max(h, w)
    size = (max(1, round(h * scale)), max(1, round(w * scale)))
    return interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)


def resize_alpha(alpha: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Return an alpha channel (H, W) uint8 at another size."""
    if alpha.shape == torch.Size(size):
        return alpha
    resized = interpolate(alpha[None, None].float(), tuple(size), mode="bilinear", antialias=True)
    return resized[0, 0].round().to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) or (1, 3, H, W), clipped to [0, 1], as an 8-bit picture."""
    image = image.detach().reshape(image.shape[-3:]).float().clamp(0, 1)
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def check_output(path: Path) -> None:
    """Raise :class:`ImageError` now, before any work, if a picture could not be written to the path."""
    if path.is_dir():
        raise ImageError(f"the output {path} is a folder: give a file name such as {path / 'out.png'}")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(f"the output {path} has no known suffix: end it in .png, .jpg, .webp or .tif")
    if not path.parent.is_dir():
        raise ImageError(f"the output folder {path.parent} does not exist: create it first")
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    except OSError as error:
        raise ImageError(f"cannot write into {path.parent} ({error.strerror}): choose another folder") from None
    os.close(handle)
    os.unlink(beside)


def write_image(path: Path, picture: Picture) -> None:
    """Write a picture with its alpha and ICC profile, beside the path first and then renamed: never half a file."""
    check_output(path)
    image = to_pil(picture.rgb)
    suffix = path.suffix.lower()
    if picture.alpha is not None and suffix not in (".jpg", ".jpeg", ".bmp"):
        image.putalpha(Image.fromarray(picture.alpha.numpy()))
    options: dict[str, object] = {"icc_profile": picture.icc_profile} if picture.icc_profile else {}
    if suffix in (".jpg", ".jpeg"):
        options |= {"quality": 95, "subsampling": 0}
    elif suffix == ".webp":
        options |= {"quality": 95}
    try:
        with replacing(path, suffix=suffix) as beside:
            image.save(beside, **options)  # type: ignore[arg-type]
    except OSError as error:
        raise ImageError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another path"
        ) from None
