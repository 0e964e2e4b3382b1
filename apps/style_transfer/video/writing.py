"""Writing: segments of a video in H.264, and the whole of them with the sound of the original."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.style_transfer.files.writing import writing
from apps.style_transfer.video.extras import pyav
from apps.style_transfer.video.reading import EXACT, Frame, Pixels, Video, opened

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    _Packet = Packet[Stream]

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv")
SEGMENT_SUFFIX = ".nut"  # of all containers of FFmpeg the one that keeps any time base
_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
# Frames in the order in which they are shown, so that segments can be put one after another.
_X264 = {"crf": "17", "preset": "medium", "bf": "0"}


def check_suffix(output: Path) -> None:
    """Raise ValueError unless a video can be written under the name."""
    suffix = output.suffix.lower()
    if suffix in (".gif", ".webp"):
        raise ValueError(f"{output} would be an animated picture: give .mp4, or restyle a clip with -c IN -o OUT")
    if suffix not in SUFFIXES:
        raise ValueError(f"{output} is no name for a video: give it the suffix {', '.join(SUFFIXES[:-1])} or .mkv")


class Segment:
    """A run of frames as one H.264 stream, yuv420p, that begins with a key frame.

    H.264 has no odd sizes in 4:2:0: the last row or column of these is repeated.
    """

    def __init__(self, container: OutputContainer, video: Video, width: int, height: int) -> None:
        self._container, self._video = container, video
        self._stream = _video_stream(container, video, width, height)

    def write(self, frame: Frame) -> None:
        """Encode a frame."""
        h, w = frame.pixels.shape[:2]
        even = np.pad(frame.pixels, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
        picture = _halved(even, self._video.colours)
        picture.pts, picture.time_base = frame.pts, self._video.time_base
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> None:
        """Encode what is still waiting."""
        self._container.mux(self._stream.encode(None))


@contextmanager
def segment(path: Path, video: Video, width: int, height: int) -> Iterator[Segment]:
    """Give a segment to write to; the file is whole or not there."""
    av = pyav()
    with (
        writing(path, suffix=SEGMENT_SUFFIX) as beside,
        av.open(str(beside), "w", format="nut") as container,
    ):
        encoder = Segment(container, video, width, height)
        yield encoder
        encoder.finish()


def check_container(video: Video, output: Path, work: Path) -> None:
    """Raise ValueError where the kind of ``output`` does not take the sound of the video; tried in a folder."""
    av = pyav()
    trial = work / f"trial{output.suffix.lower()}"
    try:
        with opened(video.path) as (original, _), av.open(str(trial), "w") as container:
            _video_stream(container, video, 16, 16)
            _sound(original, container, output)
            try:
                container.start_encoding()
            except av.FFmpegError as error:
                raise ValueError(_unfit(original, output, error)) from None
    finally:
        trial.unlink(missing_ok=True)


def join(video: Video, segments: Sequence[Path], output: Path) -> None:
    """Write the segments, one after another, with the sound and the notes of the original: whole or not at all.

    The packets of both are copied as they are. Raises ValueError.
    """
    av = pyav()
    options = {}
    if output.suffix.lower() != ".mkv":
        # Times are kept to the unit, and the index comes first, for players in the web.
        scale = str(video.time_base.denominator)
        options = {"movflags": "+faststart", "movie_timescale": scale, "video_track_timescale": scale}
    with (
        writing(output, suffix=output.suffix.lower()) as beside,
        opened(video.path) as (original, _),
        av.open(str(segments[0])) as first,
        av.open(str(beside), "w", options=options) as whole,
    ):
        whole.metadata.update({k: v for k, v in original.metadata.items() if k not in _OF_THE_FILE})
        pictures = whole.add_stream_from_template(first.streams.video[0])
        pictures.time_base, pictures.codec_context.framerate = video.time_base, video.rate
        sound = _sound(original, whole, output)
        streams = [_pictures(segments, pictures)]
        if sound:
            streams.append(_copied(original, sound))
        for packet in heapq.merge(*streams, key=_time):
            whole.mux(packet)


def _halved(pixels: Pixels, colours: dict[str, int]) -> VideoFrame:
    """Return RGB as yuv420p, its chroma level with the left pixel of each pair, where a decoder of H.264 looks for it.

    FFmpeg's own conversion puts it between the two, and colours would creep to the right with every encoding.
    """
    av = pyav()
    whole: Any = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuv444p",
        dst_colorspace=colours["colorspace"],
        dst_color_range=colours["color_range"],
        interpolation=EXACT,
    )
    luma, *chroma = whole.to_ndarray()
    planes = [luma]
    for plane in chroma:
        rows = plane[::2].astype(np.uint16) + plane[1::2]
        wide = np.pad(rows, ((0, 0), (1, 0)), mode="edge")
        planes.append(((wide[:, :-1:2] + 2 * wide[:, 1::2] + wide[:, 2::2] + 4) >> 3).astype(np.uint8))
    packed = np.concatenate([plane.ravel() for plane in planes]).reshape(-1, pixels.shape[1])
    picture: VideoFrame = av.VideoFrame.from_ndarray(packed, format="yuv420p")
    return picture


def _video_stream(container: OutputContainer, video: Video, width: int, height: int) -> VideoStream:
    stream: Any = container.add_stream("libx264", rate=video.rate, options=dict(_X264))
    stream.width, stream.height = width + width % 2, height + height % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = video.time_base
    context.sample_aspect_ratio = video.aspect
    for name, value in video.colours.items():
        setattr(context, name, value)
    found: VideoStream = stream
    return found


def _sound(original: InputContainer, whole: OutputContainer, output: Path) -> dict[int, Stream]:
    try:
        return {s.index: whole.add_stream_from_template(s) for s in original.streams.audio}
    except (ValueError, pyav().FFmpegError) as error:
        raise ValueError(_unfit(original, output, error)) from None


def _unfit(original: InputContainer, output: Path, error: Exception) -> str:
    codecs = ", ".join(sorted({s.codec_context.name for s in original.streams.audio})) or "nothing"
    return f"{output.suffix} does not take the sound of {original.name} ({codecs}; {error}): give -o the suffix .mkv"


def _pictures(segments: Sequence[Path], stream: Stream) -> Iterator[_Packet]:
    av = pyav()
    for path in segments:
        with av.open(str(path)) as container:
            yield from _assigned(container.demux(video=0), {0: stream})


def _copied(original: InputContainer, sound: dict[int, Stream]) -> Iterator[_Packet]:
    return _assigned(original.demux(list(original.streams.audio)), sound)


def _assigned(packets: Iterator[_Packet], streams: dict[int, Stream]) -> Iterator[_Packet]:
    """Give the packets, each assigned to the stream that takes the place of its own."""
    for packet in packets:
        if packet.dts is not None:  # the mark at the end has none
            packet.stream = streams[packet.stream_index]
            yield packet


def _time(packet: _Packet) -> Fraction:
    assert packet.dts is not None
    return packet.dts * (packet.time_base or Fraction(1))
