"""Reading: any picture as a :class:`Raster`, its size checked before a pixel is decoded."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from apps.style_transfer.files import icc, metadata
from apps.style_transfer.files.formats import Format, recognised
from apps.style_transfer.files.pixels import Decoded, as_uint16, by_channels, from_pillow, without_inks
from apps.style_transfer.files.raster import MAX_PIXELS, ImageError, Metadata, Raster, Values

log = logging.getLogger(__name__)

_DENSEST = 80  # pixels that a byte of a photograph may stand for; in a JPEG of the lowest quality it is 40
_PLAIN = 8_000_000  # pixels below which a byte may stand for more: smaller drawings are flat as well, and cost less
_MASK = 40_000_000  # pixels of a mask
_STRIP = 50  # how many times longer than wide a picture of more than a megapixel may be
_UPRIGHT: dict[int, Callable[[Values], Values]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def read_raster(path: Path, *, max_pixels: int = MAX_PIXELS, flat: bool = False) -> Raster:
    """Read a picture.

    The EXIF orientation is applied; grey, palette and CMYK are made RGB; the colour profile is converted from (see
    :mod:`icc`); alpha is kept apart. Of an animation it is the first frame. NaN is read as 0, and floats as [0, 1],
    [0, 255] or [0, 65535], the least that holds 99 % of them.

    Args:
        path: the file.
        max_pixels: of more it is refused.
        flat: it may be a drawing of few colours, as a mask is, whose large size costs next to no bytes; of more than 40
            million pixels every second one is kept each way, or every third: a mask need not be as sharp.

    Raises:
        ImageError: in one line, where there is no picture, it is damaged, or too large; see :func:`check_size`.
    """
    kind = kind_of(path)
    largest = partial(check_size, path, max_pixels=max_pixels, flat=flat)
    with decoding(path):
        if kind.name == "TIFF":
            from apps.style_transfer.files import tiff

            with quiet():
                found = tiff.read(path, largest)
            if found is not None:
                decoded, notes, orientation = found
                return finished(str(path), _thinned(decoded) if flat else decoded, notes, orientation)
        with opened(path, kind) as image:
            largest(*image.size)
            notes, orientation = _loaded(str(path), image)
            if kind.name == "PNG" and _bits_of_png(path) == 16:
                deep = _deep_png(path)
                return finished(str(path), _thinned(deep) if flat else deep, replace(notes, depth=16), orientation)
            # Before the colours of a palette take four bytes each.
            return finished(str(path), from_pillow(_reduced(image) if flat else image), notes, orientation)


def _step(width: int, height: int) -> int:
    return math.ceil(math.sqrt(width * height / _MASK))


def _reduced(image: Image.Image) -> Image.Image:
    k = _step(*image.size)
    return image.resize((-(-image.width // k), -(-image.height // k)), Image.Resampling.NEAREST) if k > 1 else image


def _thinned(decoded: Decoded) -> Decoded:
    k = _step(*decoded.values.shape[:2])
    alpha = None if decoded.alpha is None else decoded.alpha[::k, ::k]
    return replace(decoded, values=decoded.values[::k, ::k], alpha=alpha)


def raster_of(image: Image.Image) -> Raster:
    """Return a picture of Pillow's as :func:`read_raster` would have read it from its file.

    Raises:
        ImageError: where its pixels cannot be decoded.
    """
    with decoding("the picture"):
        notes, orientation = _loaded("the picture", image)
        if image.mode.startswith(("I", "F")):
            deep = Decoded(as_uint16(np.asarray(image)), None, "GRAY")
            return finished("the picture", deep, replace(notes, depth=16), orientation)
        return finished("the picture", from_pillow(image), notes, orientation)


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height as they are stored, from the header of a picture; raises as :func:`read_raster`."""
    kind = kind_of(path)
    with decoding(path):
        if kind.name == "TIFF":  # of which Pillow opens fewer than are read
            import tifffile

            from apps.style_transfer.files import tiff

            with quiet(), tifffile.TiffFile(path) as file:
                return tiff.size(file.pages.first)
        with opened(path, kind) as image:
            return image.size


def kind_of(path: Path) -> Format:
    """Return the kind of a file by its content, whatever its name says."""
    if path.is_dir():
        raise ImageError(f"{path} is a folder: give the path of a picture")
    if path.exists() and not path.is_file():  # a pipe would have us wait for ever
        raise ImageError(f"{path} is no file but a pipe or a device: save the picture to a file first")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise ImageError(f"no picture at {path}: check the path") from None
    except PermissionError:
        raise ImageError(f"{path} may not be read: check its permissions") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be read ({_one_line(error)})") from None
    if not head:
        raise ImageError(f"{path} is empty (0 bytes): export the picture again")
    kind = recognised(head)
    if kind is None:
        raise ImageError(f"{path} is not a picture that can be read: give a JPEG, PNG, WebP, TIFF, HEIC or AVIF")
    kind.require()
    return kind


def check_size(path: Path, width: int, height: int, *, max_pixels: int, flat: bool = False) -> None:
    """Raise :class:`ImageError` where a picture has too many pixels to be decoded.

    Too many are more than ``max_pixels``; and, unless it is ``flat`` or that limit was raised, what no photograph has:
    more than 80 for each byte of the file (of n pixels, below 8 million, 80 times 8e6 / n), or a megapixel on a strip
    of more than 50 to 1. It is a bomb, or the size in its header is wrong.
    """
    if width * height > max_pixels:
        raise ImageError(
            f"{path} has {width} x {height} pixels, more than {max_pixels / 1e6:g} million: "
            "make it smaller, or raise --max-megapixels if you trust the file"
        )
    size = path.stat().st_size
    if not flat and max_pixels <= MAX_PIXELS and _unlikely(width, height, size):
        raise ImageError(
            f"{path} has {width} x {height} pixels in {size / 1e3:.0f} kB, as no photograph has: make it smaller, or "
            f"say --max-megapixels {MAX_PIXELS // 1_000_000 + 1} if you trust the file"
        )


def _unlikely(width: int, height: int, size: int) -> bool:
    pixels = width * height
    strip = pixels > 1_000_000 and max(width, height) > _STRIP * min(width, height)
    return strip or pixels**2 > _DENSEST * size * max(pixels, _PLAIN)


@contextmanager
def decoding(name: Path | str) -> Iterator[None]:
    """Turn whatever a decoder says of a damaged file into one line."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly everything on bytes that are wrong in the right place
        raise ImageError(f"{name} is damaged or cut short ({_one_line(error)}): export the picture again") from None


class _Silence:
    """Warnings and loggers are those of all threads: the first that wants silence makes it, the last one ends it."""

    def __init__(self) -> None:
        self._lock, self._count, self._kept = threading.Lock(), 0, ExitStack()

    def begin(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._kept.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                for logger in map(logging.getLogger, ("tifffile", "imagecodecs", "PIL.TiffImagePlugin")):
                    self._kept.callback(setattr, logger, "disabled", logger.disabled)
                    logger.disabled = True

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._kept.close()


_SILENCE = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep off the terminal what decoders say of what they forgive."""
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


@contextmanager
def opened(path: Path, kind: Format) -> Iterator[ImageFile.ImageFile]:
    """Open a file and read its header, but not its pixels."""
    with quiet():
        image = kind.open(path)
    with image:
        yield image


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _loaded(name: str, image: Image.Image) -> tuple[Metadata, int]:
    """Decode the pixels, and return what stands beside them, and the orientation."""
    if image.format != "TIFF":  # whose notes are gone when the pixels are there; those of a PNG may come after them
        image.load()
    with quiet():
        notes = metadata.notes_of(name, image)
        image.load()
        return notes, metadata.orientation_of(image)  # only now, for Pillow has turned a TIFF by itself


def _bits_of_png(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _deep_png(path: Path) -> Decoded:
    import imagecodecs

    with quiet():
        return by_channels(imagecodecs.png_decode(path.read_bytes()))


def finished(name: str, decoded: Decoded, notes: Metadata, orientation: int) -> Raster:
    """Return pixels in sRGB and upright."""
    values, profile = _in_srgb(name, decoded, notes.icc_profile)
    turn = _UPRIGHT[orientation]
    alpha = None if decoded.alpha is None else np.ascontiguousarray(turn(decoded.alpha))
    return Raster(np.ascontiguousarray(turn(values)), alpha, replace(notes, icc_profile=profile))


def _in_srgb(name: str, decoded: Decoded, profile: bytes | None) -> tuple[Values, bytes | None]:
    """Return the values (H, W, 3) in sRGB, and the profile in which the picture is to be written."""
    values, space = decoded.values, decoded.space
    if profile is not None:
        kind = icc.kind_of(profile, space)
        if kind == "broken" and space == "GRAY":  # grey in an RGB space is what many programs write
            kind = icc.kind_of(profile, "RGB")
            if kind != "broken":
                values, space = np.repeat(values[..., None], 3, axis=-1), "RGB"
        if kind == "broken":
            log.warning("%s: its colour profile is damaged or of another kind; the colours are taken as sRGB", name)
        elif kind == "srgb":
            return values, profile
        else:
            return icc.to_srgb(values, profile, space), profile if kind == "both" else None
    if space == "GRAY":
        return np.repeat(values[..., None], 3, axis=-1), None
    if space == "CMYK":
        return without_inks(values), None
    return values, None
