"""Reading: the frames of a video one after another, upright, each with its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from apps.style_transfer.video.extras import pyav

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels = NDArray[np.uint8]

EXACT = 0x4 | 0x2000 | 0x40000
"""How colours are converted: bicubic, chroma in full, rounded well. FFmpeg's default loses about 1/255 each time."""


class Frame(NamedTuple):
    """A frame: its time in units of the video's time base, and its pixels, (H, W, 3) RGB of 8 bits, upright."""

    pts: int
    pixels: Pixels


@dataclass(frozen=True)
class Video:
    """A video in a file.

    Attributes:
        path: the file; its frames are decoded one at a time.
        width, height: of a frame, upright.
        turns: quarter turns anticlockwise that the file asks a player for; :meth:`frames` have made them.
        time_base: seconds of a unit of time.
        rate: frames a second, in the mean.
        count: how many frames there are, as the file says; None where it does not.
        aspect: width over height of a pixel, upright.
        colours: what the file says of its matrix, range, transfer and primaries, by the names of FFmpeg.
    """

    path: Path
    width: int
    height: int
    turns: int
    time_base: Fraction
    rate: Fraction
    count: int | None
    aspect: Fraction
    colours: dict[str, int]

    def frames(self, skip: int = 0) -> Iterator[Frame]:
        """Give the frames after the first ``skip``, in the order in which they are shown.

        Times that the file lacks, or that do not increase, are set one frame after the last. Those skipped are decoded
        all the same: a jump would land on a key frame that may be anywhere. Raises ValueError where the file is broken.
        """
        step = max(1, round(1 / (self.rate * self.time_base)))
        width, height = (self.height, self.width) if self.turns % 2 else (self.width, self.height)
        last: int | None = None
        with opened(self.path) as (container, stream):
            for i, frame in enumerate(_decoded(self.path, container, stream)):
                pts = frame.pts
                if pts is None or (last is not None and pts <= last):
                    pts = 0 if last is None else last + step
                last = pts
                if i >= skip:
                    pixels: Any = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation=EXACT)
                    yield Frame(pts, np.ascontiguousarray(np.rot90(pixels, self.turns)))


def read_video(path: Path) -> Video:
    """Return what a file says of its first video stream; cover pictures of sound do not count.

    Raises ValueError, in one line, where there is none or the file cannot be read.
    """
    with opened(path) as (container, stream):
        first = next(_decoded(path, container, stream), None)
        if first is None:
            raise ValueError(f"{path} has no frame that can be decoded: export the video again")
        turns = round(first.rotation / 90) % 4
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        time_base = stream.time_base or 1 / rate
        count = stream.frames
        if not count and container.duration:
            count = round(container.duration / 1_000_000 * rate)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        context = stream.codec_context
        names = ("colorspace", "color_range", "color_trc", "color_primaries")
        sizes = (first.width, first.height)
        return Video(
            path,
            *(sizes[::-1] if turns % 2 else sizes),
            turns,
            time_base,
            rate,
            count or None,
            1 / aspect if turns % 2 else aspect,
            {name: int(getattr(context, name)) for name in names},
        )


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and give its video stream; ValueError, in one line, where it cannot be read or has none."""
    av = pyav()
    if not path.is_file():
        raise ValueError(f"no video at {path}: check the path")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} is not a video that can be read ({error.strerror}): give an MP4, MOV or MKV"
        ) from None
    with container:
        for stream in container.streams.video:
            if not stream.disposition & av.stream.Disposition.attached_pic:
                stream.thread_type = "AUTO"
                yield container, stream
                return
        raise ValueError(f"{path} has no video stream: give a file that has pictures that move")


def _decoded(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    av = pyav()
    i = 0
    try:
        for frame in container.decode(stream):
            i += 1
            yield frame
    except av.FFmpegError as error:
        raise ValueError(f"{path} is damaged after frame {i} ({error.strerror}): export the video again") from None
