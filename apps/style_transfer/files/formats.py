"""The kinds of files: which are read, by what, and with which settings they are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import ImageFile

from apps.style_transfer.files.raster import ImageError

_BRANDS_AVIF = {b"avif", b"avis"}
_BRANDS_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


@dataclass(frozen=True)
class Format:
    """A kind of file: Pillow's name, its reader, the settings of the best quality, and what it can hold."""

    name: str
    suffixes: tuple[str, ...]
    module: str
    reader: str
    settings: dict[str, Any] = field(default_factory=dict)
    alpha: bool = True
    metadata: bool = True
    deep: bool = False
    longest: int | None = None

    def open(self, path: Path) -> ImageFile.ImageFile:
        """Open a file and read its header, but not its pixels.

        By its own reader, for ``PIL.Image.open`` tries whatever Pillow has ever known, PostScript too.
        """
        opened: ImageFile.ImageFile = getattr(self._imported(), self.reader)(path)
        return opened

    def require(self) -> None:
        """Raise :class:`ImageError` where the library for this kind is missing."""
        self._imported()

    def _imported(self) -> Any:
        try:
            module = import_module(self.module)
        except ImportError:
            raise ImageError(f"{self.name} pictures need {_needed(self)}") from None
        if self.name == "HEIF":
            module.register_heif_opener()
        elif self.name == "AVIF" and not module.SUPPORTED:
            raise ImageError(f"{self.name} pictures need {_needed(self)}")
        return module


def _needed(kind: Format) -> str:
    if kind.name == "HEIF":
        return "pillow-heif: pip install 'unroll-style[heif]'"
    return "Pillow 11.3 or newer: pip install --upgrade pillow"


_TIFF = Format("TIFF", (".tif", ".tiff"), "PIL.TiffImagePlugin", "TiffImageFile", deep=True)
FORMATS = (
    Format(
        "JPEG",
        (".jpg", ".jpeg"),
        "PIL.JpegImagePlugin",
        "JpegImageFile",
        {"quality": 95, "subsampling": "4:4:4"},
        alpha=False,
        longest=65_500,
    ),
    Format("PNG", (".png",), "PIL.PngImagePlugin", "PngImageFile", deep=True),
    Format("WEBP", (".webp",), "PIL.WebPImagePlugin", "WebPImageFile", {"quality": 95}, longest=16_383),
    _TIFF,
    Format("GIF", (".gif",), "PIL.GifImagePlugin", "GifImageFile", metadata=False, longest=65_535),
    Format("BMP", (".bmp",), "PIL.BmpImagePlugin", "BmpImageFile", alpha=False, metadata=False),
    Format(
        "HEIF",
        (".heic", ".heif"),
        "pillow_heif",
        "HeifImageFile",
        {"quality": 95, "subsampling": "4:4:4"},
        longest=16_384,
    ),
    Format(
        "AVIF",
        (".avif",),
        "PIL.AvifImagePlugin",
        "AvifImageFile",
        {"quality": 95, "subsampling": "4:4:4"},
        longest=65_535,
    ),
)
_BY_NAME = {kind.name: kind for kind in FORMATS}
_BY_SUFFIX = {suffix: kind for kind in FORMATS for suffix in kind.suffixes}
IMAGE_SUFFIXES = frozenset(_BY_SUFFIX)


def format_of(path: Path) -> Format:
    """Return the kind that the suffix of an output asks for."""
    try:
        return _BY_SUFFIX[path.suffix.lower()]
    except KeyError:
        raise ImageError(
            f"the output {path} has no known suffix: end it in .png, .jpg, .webp, .tif, .heic or .avif"
        ) from None


def recognised(head: bytes) -> Format | None:
    """Return the kind of a file by its first 64 bytes, whatever its name says."""
    if head.startswith(b"\xff\xd8\xff"):
        return _BY_NAME["JPEG"]
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _BY_NAME["PNG"]
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _BY_NAME["GIF"]
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _BY_NAME["WEBP"]
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _TIFF
    if head.startswith(b"BM"):
        return _BY_NAME["BMP"]
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12]} | {head[i : i + 4] for i in range(16, length - 3, 4)}
        if brands & _BRANDS_AVIF:
            return _BY_NAME["AVIF"]
        if brands & _BRANDS_HEIF:
            return _BY_NAME["HEIF"]
    return None
