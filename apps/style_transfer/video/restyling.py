"""Restyling a video: frame after frame, segment after segment, taken up again where it was left."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from apps.style_transfer.files.images import SMALLEST_SIDE, Picture, resize
from apps.style_transfer.files.writing import check_place, clear_partial
from apps.style_transfer.projectors import ProjectorOptions, build_projector
from apps.style_transfer.style import Style, blend, read_style
from apps.style_transfer.stylizer import Stylizer
from apps.style_transfer.transfer import LARGEST_SCALE, style_size
from apps.style_transfer.video.flow import motion, warp
from apps.style_transfer.video.reading import Frame, Video, read_video
from apps.style_transfer.video.temporal import Temporal
from apps.style_transfer.video.work import Work, working
from apps.style_transfer.video.writing import check_container, check_suffix, join, segment
from apps.style_transfer.weights import EMBEDDED_SOLVER
from unroll import Compose, Operator

SEGMENT = 24
"""Frames of a segment: what an interruption costs at most, and how far apart key frames are."""

CUT = 0.2
"""Share of a frame whose motion is known below which another shot has begun."""

HOLD = (0.2, 0.3, 0.5, 1.0)
"""lambda_t of the temporal term, where the consistency is 1. Held at the last step alone, frames grow soft; held alike
at all of them, the style builds up where nothing moves: docs/howto/video.md has the figures."""


@dataclass(frozen=True)
class Look:
    """What is made of each frame.

    Attributes:
        projector: what keeps it a photograph, as for pictures.
        consistency: scale of :data:`HOLD`, the weights of the temporal term; 0 restyles each frame by itself.
        alpha: scales every step.
        preserve_color: "luminance" keeps the colours of the video; None takes those of the style.
    """

    projector: ProjectorOptions = field(default_factory=ProjectorOptions)
    consistency: float = 1.0
    alpha: float = 1.0
    preserve_color: str | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 <= self.consistency < math.inf:
            raise ValueError(f"the consistency must be a number of at least 0, got {self.consistency:g}")
        if self.preserve_color not in (None, "luminance"):
            raise ValueError(
                "of a video, preserve-color keeps the luminance alone: histograms change from shot to shot"
            )


class FrameStylizer:
    """Restyle the frames of a video, each held to the one before by a :class:`Temporal` in the loop.

    Where the motion of most of a frame is unknown another shot has begun, and it is restyled as a picture is.

    Attributes:
        before: the last frame and what was made of it, both (1, 3, H, W); None before the first.
        cuts: how many shots have begun after the first.
    """

    def __init__(self, stylizer: Stylizer, style: Style, look: Look | None = None) -> None:
        self._stylizer, self._style, self._look = stylizer, style, look or Look()
        self.before: tuple[Tensor, Tensor] | None = None
        self.cuts = 0

    def __call__(self, frame: Tensor) -> Tensor:
        """Return a frame (1, 3, H, W) in [0, 1] restyled, likewise."""
        look = self._look
        operators = [build_projector(look.projector, frame), self._temporal(frame)]
        standing = [operator for operator in operators if operator is not None]
        result = self._stylizer(
            frame,
            self._style,
            projector=Compose(standing) if standing else None,
            alpha=look.alpha,
            steps=look.projector.steps(self._stylizer.weights.architecture.steps),
            preserve_color=look.preserve_color,
        )
        # With the colours that the solver gave it, which those of the video may have replaced in the result.
        self.before = (frame, result.iterates[-1].clamp(0, 1))
        return result.image

    def _temporal(self, frame: Tensor) -> Operator | None:
        if self.before is None or not self._look.consistency:
            return None
        previous, made = self.before
        flow, mask = motion(previous, frame)
        if float(mask.mean()) < CUT:
            self.cuts += 1
            return None
        weights = [self._look.consistency * weight for weight in HOLD]
        return Temporal(warp(made, flow, smooth=True).clamp(0, 1), mask, weights)


Progress = Callable[[int, int | None], None]


def restyle_video(
    source: Path,
    output: Path,
    styles: Sequence[str],
    look: Look | None = None,
    *,
    style_weights: Sequence[float] | None = None,
    style_scale: float = 1.0,
    size: int | None = None,
    weights: Path = EMBEDDED_SOLVER,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Restyle a video with the learned solver, sound, rate and times kept; memory does not grow with its length.

    Finished segments of :data:`SEGMENT` frames lie in the folder ``.NAME.video`` beside the output until that is
    written, whole. An interrupted call that is made again goes on after the last of them, with the same result.

    Args:
        source: any file with a video stream that FFmpeg reads.
        output: .mp4, .mov, .m4v or .mkv, in H.264, yuv420p.
        styles: pictures, saved styles and names of the gallery; several are blended.
        look: what is made of each frame.
        style_weights, style_scale: as in :class:`~apps.style_transfer.Options`.
        size: longest side of the result.
        weights, device: as in :class:`~apps.style_transfer.Stylizer`.
        overwrite: replace an output that exists; the source never is.
        progress: called with how many frames are done, and how many there are if that is known.

    Raises ValueError, in one line, for what the caller can mend.
    """
    look = look or Look()
    check_suffix(output)
    video = read_video(source)
    _check(video, output, size, style_scale, overwrite)
    stylizer = Stylizer(weights, device)
    shape = _shape(video, size)
    style = _style(stylizer, styles, style_weights, shape, style_scale)
    inputs = _fingerprint(video, look, style, shape)
    clear_partial(output.parent)
    with working(output.parent / f".{output.name}.video", inputs) as work:
        check_container(video, output, work.folder)
        _make(video, work, FrameStylizer(stylizer, style, look), stylizer.device, size, progress)
        join(video, work.paths(), output)
        work.remove()


def _make(
    video: Video,
    work: Work,
    restyled: FrameStylizer,
    device: torch.device,
    size: int | None,
    progress: Progress | None,
) -> None:
    def tensor(frame: Frame) -> Tensor:
        image = torch.from_numpy(frame.pixels).permute(2, 0, 1)[None].to(device).float().div_(255)
        return image if size is None else resize(image, size)

    frames = video.frames(skip=max(0, work.frames - 1))
    if progress is not None:
        progress(work.frames, video.count)
    if work.image is not None:
        restyled.before = (tensor(next(frames)), work.image.to(device))
    while (first := next(frames, None)) is not None:
        done = 0
        height, width = tensor(first).shape[-2:]
        with segment(work.path(work.segments), video, width, height) as encoder:
            for frame in chain([first], islice(frames, SEGMENT - 1)):
                image = restyled(tensor(frame))
                encoder.write(Frame(frame.pts, Picture(image).raster().values))
                done += 1
                if progress is not None:
                    progress(work.frames + done, video.count)
        assert restyled.before is not None  # a segment has a frame
        work.finished(done, restyled.before[1])


def _check(video: Video, output: Path, size: int | None, scale: float, overwrite: bool) -> None:
    if output.is_file() and output.samefile(video.path):
        raise ValueError(f"the output {output} is the input: give another name with -o")
    check_place(output, example="out.mp4", overwrite=overwrite)
    if size is not None and size < SMALLEST_SIDE:
        raise ValueError(f"size must be at least {SMALLEST_SIDE} pixels, got {size}")
    if not 0 < scale <= LARGEST_SCALE:
        raise ValueError(f"style-scale must be above 0 and at most {LARGEST_SCALE}, got {scale:g}")


def _shape(video: Video, size: int | None) -> tuple[int, int]:
    longest = max(video.height, video.width)
    scale = (size or longest) / longest
    return max(1, round(video.height * scale)), max(1, round(video.width * scale))


def _style(
    stylizer: Stylizer, sources: Sequence[str], weights: Sequence[float] | None, shape: tuple[int, int], scale: float
) -> Style:
    """Encode the styles, once for all frames, at the size that they would have beside a photograph of this shape."""
    encoded = []
    for source in sources:
        found = read_style(source)
        if isinstance(found, Style) and scale != 1:
            raise ValueError(f"{source} is a saved style and has its size: give the picture of the style")
        longest = None if isinstance(found, Style) else style_size(found, shape, scale)
        encoded.append(stylizer.style(found, size=longest))
    return blend(encoded, weights)


def _fingerprint(video: Video, look: Look, style: Style, shape: tuple[int, int]) -> str:
    """Return what tells a run from one that would give other frames."""
    about = video.path.stat()
    described = [str(video.path.resolve()), about.st_size, about.st_mtime_ns, asdict(look), shape, style.weights]
    digest = hashlib.sha256(json.dumps([*described, SEGMENT]).encode())
    for levels in style.encoded:
        for tensor in chain.from_iterable(levels):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
