"""Tiny videos made from nothing, and what is in a video."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

TIME_BASE = Fraction(1, 12800)
STEP = 512
ROUNDED = 0x4 | 0x2000 | 0x40000  # bicubic, full chroma, accurate rounding: the default is one step too dark


def picture(height: int, width: int, k: int = 0) -> NDArray[np.uint8]:
    """Return smooth colours, different in every corner, that move with k."""
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    waves = [np.sin(2 * np.pi * (x * (c + 1) + y / (c + 1) - k / 40)) for c in range(3)]
    shade = np.stack([100 + 40 * w for w in waves], -1) + 60 * (x * y)[..., None]
    return np.rint(shade).astype(np.uint8)


def make_video(
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),
    times: Sequence[int] = range(0, 6 * STEP, STEP),
    quarter_turns: int = 0,
    colours: tuple[int, int] = (2, 0),
    codec: str = "libx264",
    sound: str | None = "aac",
    pixels: str = "yuv420p",
) -> Path:
    """Write a video of moving colours, with a tone."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "4"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.colorspace, stream.codec_context.color_range = colours
        if quarter_turns:
            stream.set_display_rotation(90 * quarter_turns)
        tone = None if sound is None else container.add_stream(sound, rate=16000)
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(height, width, k))
            frame = frame.reformat(
                format=pixels, dst_colorspace=colours[0], dst_color_range=colours[1], interpolation=ROUNDED
            )
            frame.pts, frame.time_base = time, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            wave = np.sin(np.arange(4096) / 8)[None]
            planar = sound == "aac"
            samples = wave.astype(np.float32) if planar else (30000 * wave).astype(np.int16)
            heard = av.AudioFrame.from_ndarray(samples, format="fltp" if planar else "s16", layout="mono")
            heard.sample_rate, heard.pts = 16000, 0
            container.mux(tone.encode(heard))
            container.mux(tone.encode(None))
    return path


class Seen(NamedTuple):
    """What a player sees: frames as the decoder gives them and their times in seconds, and what the stream says."""

    frames: list[NDArray[np.uint8]]
    times: list[Fraction]
    time_base: Fraction
    rate: Fraction
    codec: str
    pixels: str
    colours: tuple[int, int]
    rotation: int


def seen(path: Path) -> Seen:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(stream))
        return Seen(
            [frame.to_ndarray(format="rgb24", interpolation=ROUNDED) for frame in decoded],
            [frame.pts * stream.time_base for frame in decoded],
            stream.time_base,
            stream.average_rate,
            stream.codec_context.name,
            stream.codec_context.pix_fmt,
            (decoded[0].colorspace, decoded[0].color_range),
            decoded[0].rotation,
        )


def heard(path: Path) -> list[tuple[Fraction, bytes]]:
    """Return the packets of sound, with their times."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.pts is not None]
        return [(p.pts * p.time_base, bytes(p)) for p in packets]
