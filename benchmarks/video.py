"""The flicker of restyled video, on clips made from shipped photographs, whose true motion is known.

    .venv/bin/python benchmarks/video.py [--size 256] [--frames 16] [--styles NAME ...] [--pictures FOLDER]

For each clip and style, artistic and with ``--photo``: flicker (:func:`apps.style_transfer.video.flicker.flicker`, with
the true motion and the true occlusions) and style cut 1 - L_s / L_s(frame), frame by frame and with the temporal term,
and the ratios of these. Means over the frames but for the first two (flicker) and over every third (style cut). The
noise has a standard deviation of 0.02. A table on standard error, JSON on standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from apps.style_transfer import EXAMPLE_CONTENT, PHOTO, VGG19, Stylizer, read_image, resize, write_image
from apps.style_transfer.files.images import Picture
from apps.style_transfer.losses import encode_style, gram
from apps.style_transfer.projectors import ProjectorOptions
from apps.style_transfer.style import gallery
from apps.style_transfer.video.flicker import flicker
from apps.style_transfer.video.flow import Motion
from apps.style_transfer.video.restyling import FrameStylizer, Look

NOISE = 0.02
OTHER = EXAMPLE_CONTENT.parent / "petra.jpg"
STYLES = ("hokusai-great-wave", "van-gogh-olive-trees", "cezanne-apples", "kandinsky-composition-vii")


class Clip(NamedTuple):
    """Frames (1, 3, H, W) in [0, 1] of 8 bits, and the true motion from each to the one before; none for the first."""

    frames: list[Tensor]
    motions: list[Motion | None]


def pan(count: int, height: int, width: int, *, step: tuple[float, float] = (2.3, 0.7), noise: float = NOISE) -> Clip:
    """Return a camera that moves by so many pixels a frame, to the right and down."""
    x, y = _grid(height, width)
    photo = resize(read_image(EXAMPLE_CONTENT).rgb, width + round(count * step[0]) + 40)
    frames = [_at(photo, x + 10 + k * step[0], y + 10 + k * step[1]) for k in range(count)]
    flow = torch.stack([torch.full_like(x, step[0]), torch.full_like(x, step[1])])[None]
    return _clip(frames, [Motion(flow, _inside(flow))] * count, noise)


def zoom(count: int, height: int, width: int, *, factor: float = 1.015, noise: float = NOISE) -> Clip:
    """Return a camera that comes nearer by a factor each frame, to the middle of the picture."""
    x, y = _grid(height, width)
    u, v = x - (width - 1) / 2, y - (height - 1) / 2
    photo = resize(read_image(EXAMPLE_CONTENT).rgb, round(1.3 * width))
    h, w = photo.shape[-2:]
    frames = [_at(photo, (w - 1) / 2 + u * factor**-k, (h - 1) / 2 + v * factor**-k) for k in range(count)]
    flow = torch.stack([u, v])[None] * (1 / factor - 1)
    return _clip(frames, [Motion(flow, _inside(flow))] * count, noise)


def sprite(
    count: int, height: int, width: int, *, step: tuple[float, float] = (4.0, 1.5), noise: float = NOISE
) -> Clip:
    """Return a disc of another photograph that moves before one that stands still."""
    x, y = _grid(height, width)
    behind = _at(resize(read_image(EXAMPLE_CONTENT).rgb, round(1.2 * width)), x + 10, y + 10)
    other = resize(read_image(OTHER).rgb, round(0.7 * width))
    frames, motions, before = [], [], torch.zeros(1, 1, height, width)
    for k in range(count):
        left, top = x - 0.25 * width - k * step[0], y - 0.4 * height - k * step[1]
        disc = (torch.hypot(left, top) < 0.2 * height).float()[None, None]
        moving = _at(other, left + 0.35 * width, top + 0.35 * height)
        frames.append(disc * moving + (1 - disc) * behind)
        flow = torch.stack([torch.full_like(x, -step[0]), torch.full_like(x, -step[1])])[None] * disc
        # Of what stands still, that is new which the disc hid before.
        motions.append(Motion(flow, torch.where(disc > 0, 1.0, 1 - before)))
        before = disc
    return _clip(frames, motions, noise)


CLIPS: dict[str, Callable[[int, int, int], Clip]] = {"pan": pan, "zoom": zoom, "sprite": sprite}


def _clip(frames: list[Tensor], motions: list[Motion], noise: float) -> Clip:
    generator = torch.Generator().manual_seed(0)
    grain = [noise * torch.randn(frame.shape, generator=generator) for frame in frames]
    rounded = [((f + g).clamp(0, 1) * 255).round() / 255 for f, g in zip(frames, grain, strict=True)]
    return Clip(rounded, [None, *motions[1:]])


def _grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return x, y


def _at(photo: Tensor, x: Tensor, y: Tensor) -> Tensor:
    h, w = photo.shape[-2:]
    where = torch.stack([x * (2 / (w - 1)) - 1, y * (2 / (h - 1)) - 1], -1)[None]
    return grid_sample(photo, where, mode="bicubic", padding_mode="reflection", align_corners=True).clamp(0, 1)


def _inside(flow: Tensor) -> Tensor:
    h, w = flow.shape[-2:]
    grid = torch.stack(_grid(h, w)) + flow
    return ((grid >= 0) & (grid <= torch.tensor([w - 1.0, h - 1.0])[:, None, None])).all(1, keepdim=True).float()


class Figures(NamedTuple):
    """Of a restyled clip."""

    flicker: float
    cut: float


def figures(made: Sequence[Tensor], clip: Clip, grams: Sequence[Tensor], vgg: VGG19) -> Figures:
    """Return the mean flicker and the mean style cut of a restyled clip."""
    steady = [
        flicker(made[k - 1], made[k], motion.flow, motion.mask)
        for k, motion in enumerate(clip.motions)
        if k >= 2 and motion is not None
    ]

    def loss(image: Tensor) -> float:
        return mean(float((gram(f) - h).square().mean()) for f, h in zip(vgg(image), grams, strict=True))

    cuts = [1 - loss((y * 255).round() / 255) / loss(x) for x, y in zip(clip.frames[2::3], made[2::3], strict=True)]
    return Figures(mean(steady), mean(cuts))


def measured(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Give a row for each clip, style and kind."""
    stylizer, vgg = Stylizer(device="cpu"), VGG19()
    height = options.size * 3 // 4
    for style in options.styles:
        painting = resize(read_image(gallery()[style].path).rgb, options.size)
        encoded, grams = stylizer.style(painting, size=options.size), encode_style(vgg, painting)
        for name in options.clips:
            clip = CLIPS[name](options.frames, height, options.size)
            for kind, projector in (("artistic", ProjectorOptions()), ("photo", PHOTO)):
                found, last = [], []
                for weight in (0.0, options.consistency):
                    restyled = FrameStylizer(stylizer, encoded, Look(projector, consistency=weight))
                    made = [restyled(frame) for frame in clip.frames]
                    found.append(figures(made, clip, grams, vgg))
                    last.append(made[-1])
                if options.pictures is not None:
                    beside = Picture(torch.cat([clip.frames[-1], *last], -1))
                    write_image(options.pictures / f"{name}_{style}_{kind}.png", beside)
                alone, held = found
                yield {
                    "clip": name,
                    "style": style,
                    "kind": kind,
                    "flicker_alone": alone.flicker,
                    "flicker": held.flicker,
                    "flicker_ratio": held.flicker / alone.flicker,
                    "cut_alone": alone.cut,
                    "cut": held.cut,
                    "cut_ratio": held.cut / alone.cut,
                }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--consistency", type=float, default=Look().consistency)
    parser.add_argument("--styles", nargs="+", default=STYLES)
    parser.add_argument("--clips", nargs="+", default=tuple(CLIPS), choices=tuple(CLIPS))
    parser.add_argument("--pictures", type=Path, help="folder for the last frames: input, frame by frame, held")
    rows = []
    for row in measured(parser.parse_args()):
        rows.append(row)
        shown = (f"{value:10.3f}" if isinstance(value, float) else f"{value:26s}" for value in row.values())
        sys.stderr.write(" ".join(shown) + "\n")
        sys.stderr.flush()
    ratios = {name: [float(str(row[name])) for row in rows] for name in ("flicker_ratio", "cut_ratio")}
    summary = {name: {"median": median(v), "least": min(v), "most": max(v)} for name, v in ratios.items()}
    sys.stdout.write(json.dumps({"rows": rows, **summary}) + "\n")


if __name__ == "__main__":
    main()
