"""Animated GIF and WebP as clips: every frame a picture, with the timing of the whole kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from apps.style_transfer.files.decode import check_size, decoding, finished, kind_of, opened, quiet
from apps.style_transfer.files.encode import check_output, fitted, in_profile, noted, save, to_image
from apps.style_transfer.files.formats import format_of
from apps.style_transfer.files.images import Picture
from apps.style_transfer.files.metadata import notes_of
from apps.style_transfer.files.pixels import from_pillow
from apps.style_transfer.files.raster import MAX_PIXELS, ImageError, Metadata, to_depth
from apps.style_transfer.files.writing import writing

ANIMATED = ("GIF", "WEBP")
FEWEST_PIXELS = 512
"""What a frame counts for at least: each takes its time, however small."""


@dataclass(frozen=True)
class Clip:
    """An animation in a file.

    Attributes:
        path: the file; its frames are decoded one at a time.
        frames: how many there are.
        durations: milliseconds of each frame.
        loop: how often it is played: 0 for ever, None once, else as the file says.
        disposals: for each frame of a GIF, what it leaves to the next (1 itself, 2 nothing, 3 what was before).
        cut_out: whether some pixel of some frame lets the background through.
    """

    path: Path
    frames: int
    durations: tuple[int, ...]
    loop: int | None
    disposals: tuple[int, ...] = ()
    cut_out: bool = False
    metadata: Metadata = field(default_factory=Metadata)

    def __iter__(self) -> Iterator[Picture]:
        """Give the frames as a player shows them, each whole."""
        with decoding(self.path), opened(self.path, kind_of(self.path)) as image:
            for i in range(self.frames):
                with quiet():
                    image.seek(i)
                    image.load()
                yield Picture.of(finished(str(self.path), from_pillow(image), self.metadata, 1))


def is_animated(path: Path) -> bool:
    """Return whether a file has more than one frame, without counting them; raises as :func:`read_clip`."""
    kind = kind_of(path)
    if kind.name not in ANIMATED:
        return False
    with decoding(path), opened(path, kind) as image:
        return bool(getattr(image, "is_animated", False))


def read_clip(path: Path, *, max_pixels: int = MAX_PIXELS) -> Clip | None:
    """Return the clip in a file, or None where there is one picture only.

    Raises:
        ImageError: in one line, where the file cannot be read, or its frames have more than ``max_pixels`` pixels
            together.
    """
    kind = kind_of(path)
    if kind.name not in ANIMATED:
        return None
    with decoding(path), opened(path, kind) as image:
        check_size(path, *image.size, max_pixels=max_pixels)
        frames = int(getattr(image, "n_frames", 1))
        if frames < 2:
            return None
        width, height = image.size
        if frames * max(width * height, FEWEST_PIXELS) > max_pixels:
            raise ImageError(
                f"{path} has {frames} frames of {width} x {height} pixels, more than {max_pixels / 1e6:g} million: "
                "make it shorter or smaller, or raise --max-megapixels if you trust the file"
            )
        durations, disposals, cut_out = [], [], False
        with quiet():
            notes = notes_of(str(path), image)
            for i in range(frames):
                image.seek(i)
                image.load()
                durations.append(int(image.info.get("duration", 0)))
                disposals.append(int(getattr(image, "disposal_method", 0)))
                alpha = None if cut_out else from_pillow(image).alpha
                cut_out = cut_out or (alpha is not None and int(alpha.min()) < 255)
            loop = image.info.get("loop")
        if kind.name == "WEBP" and loop == 1:
            loop = None
        gif = kind.name == "GIF"
        return Clip(path, frames, tuple(durations), loop, tuple(disposals) if gif else (), cut_out, notes)


def write_clip(path: Path, frames: Iterable[Picture], clip: Clip) -> None:
    """Write pictures, as many as the clip has frames and all of one size, with its timing: GIF or WebP.

    A GIF gets a palette of 256 colours for each frame, and alpha that is all or nothing. The pictures are taken one
    at a time; what is kept of them until the end has 8 bits.

    Raises:
        ImageError: in one line, where the file cannot be written.
    """
    check_output(path)
    kind = format_of(path)
    if kind.name not in ANIMATED:
        raise ImageError(
            f"{clip.path} is an animation of {clip.frames} frames: give the output the suffix .gif or .webp"
        )
    pictures = (_image(frame, hard_alpha=kind.name == "GIF") for frame in frames)
    first = next(pictures)
    notes = fitted(clip.metadata, kind, *first.size)
    settings: dict[str, Any] = {"save_all": True, "append_images": pictures, "duration": list(clip.durations)}
    if kind.name == "GIF":
        # The frames are whole. Where they let the background through, each has to go before the next comes; else only
        # 3 matters, which Pillow takes for 1 when it looks for what has changed.
        kept = [1 if disposal == 3 else disposal for disposal in clip.disposals] or [1] * clip.frames
        settings |= {"optimize": False, "disposal": [2] * clip.frames if clip.cut_out else kept}
        settings |= {} if clip.loop is None else {"loop": clip.loop}
    else:
        settings |= {**kind.settings, "loop": 1 if clip.loop is None else clip.loop}
    with writing(path, suffix=path.suffix.lower(), fault=ImageError) as beside:
        save(first, beside, format=kind.name, **settings, **noted(kind, notes))


def _image(frame: Picture, *, hard_alpha: bool) -> Image.Image:
    raster = frame.raster()
    values = in_profile(raster.values, raster.metadata.icc_profile, 8)
    alpha = None if raster.alpha is None else to_depth(raster.alpha, 8)
    if alpha is not None and hard_alpha:
        alpha = np.where(alpha < 128, 0, 255).astype(np.uint8)
    return to_image(values, alpha)
