"""The learned solver on pictures too large for memory: exactly, tile by tile.

All that a step knows of the whole picture is sums over its pixels. So each step takes three passes: the first adds up
the sums of the tiles, the second carries the steps of the features down to the pixels, the third gives them their
length, pixel by pixel. The halo of a tile is as wide as what its pixels see, so that no tile can be told in the result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from apps.style_transfer.allocation import return_memory
from apps.style_transfer.learned.gram_step import EncodedStyle, Sums
from apps.style_transfer.learned.regions import Regional, pyramid
from apps.style_transfer.learned.update import GramGradient, GramUpdate, Plan
from apps.style_transfer.projectors import ProjectorOptions, build_projector
from apps.style_transfer.solvers import length, prolonged
from apps.style_transfer.tiles.ball import TiledBall
from apps.style_transfer.tiles.canvas import Canvas, InMemory, Parts, Rectangle, Rows
from apps.style_transfer.tiles.carry import CarriedProjector
from apps.style_transfer.tiles.coarse import TiledTikhonov
from apps.style_transfer.tiles.job import Job
from apps.style_transfer.tiles.tiling import Tile, Tiling
from unroll import Operator

Progress = Callable[[int, int], None]
"""``progress(done, total)``, after every tile. What it raises ends the job."""

MEMORY = 2_000_000_000
REDUCED_PIXELS = 4_000_000
"""The most that a projector is computed on."""


@torch.no_grad()
def solve_in_tiles(
    update: GramUpdate,
    content: Tensor | Rows,
    style: EncodedStyle | Regional,
    *,
    alpha: float = 1.0,
    projector: ProjectorOptions | None = None,
    memory: int = MEMORY,
    steps: float | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
    probe: Callable[[Canvas, int], None] | None = None,
) -> Canvas:
    """Return X^(N) of X <- P[X - alpha g_t(X)] from the content, as a picture on disk to be read strip by strip.

    The untiled result up to rounding, for any size of the tiles, without a projector, with that of ``--photo``
    (:class:`TiledBall`), the coarse Tikhonov one (:class:`TiledTikhonov`) and one pixel by pixel. Others are computed
    on a reduced copy of at most 4 megapixels, see :class:`CarriedProjector`.

    Args:
        update: its device does the work.
        content: (1, 3, H, W) or (3, H, W) in [0, 1], or what can be read by rows; 16 pixels or more each way.
        style: as for ``update``; masks of regions may be in 8 bits.
        alpha: scales every step.
        projector: as for :func:`build_projector`.
        memory: bytes that the tiles may take, beside what the process has when it begins.
        steps: N; None is what :class:`~apps.style_transfer.solvers.Learned` takes with this projector.
        work: a folder for this job alone. The steps that an interrupted job has finished are found there by the next
            call with the same inputs, which goes on from them. None is a temporary folder.
        progress: see :data:`Progress`.
        probe: called with (X^(t), t) for every t that this call comes by, first the one it begins with.

    Disk: two pictures in float32, 24 bytes a pixel, and a third with a projector. Raises ValueError.
    """
    projector = projector or ProjectorOptions()
    going_on = prolonged(update)
    wanted = projector.steps(going_on.trained) if steps is None else steps
    if not 0 <= wanted < math.inf:
        raise ValueError(f"the number of steps must be at least 0, got {wanted:g}")
    count = math.ceil(wanted)
    source = InMemory(content) if isinstance(content, Tensor) else content
    _, height, width = source.shape
    if min(height, width) < 16:
        raise ValueError(f"the content is {width} x {height} pixels: each side needs 16 or more")
    if isinstance(style, Regional) and style.masks.shape[-2:] != (height, width):
        raise ValueError(f"the masks are {tuple(style.masks.shape)}, the content is {height} x {width}")
    tiling = Tiling(update.architecture, height, width, memory)
    with Job(work, source.shape) as job:
        job.begin(source, _digest(update, style, (alpha, projector, wanted)), tiling.strip)
        large = _projector(projector, job.canvas(0), tiling, memory, count) if job.done < count else None
        if probe is not None:
            probe(job.canvas(job.done), job.done)
        tick = _Ticks(progress, 2 * len(tiling.tiles) * count, 2 * len(tiling.tiles) * job.done)
        for t in range(job.done, count):
            return_memory()  # blocks of other sizes leave holes among those that are kept
            index = going_on.index(t)
            step = _Step(cast(GramGradient, update.gradients[index]), style, index, tick)
            x, following = job.canvas(t), Canvas.create(job.canvas(t + 1).path, source.shape)
            plan = step.plan(x, tiling.for_sums)
            return_memory()
            # The displacement, and then in its place the iterate that it makes.
            slope = step.displace(x, following, plan, tiling.tiles)
            for strip in x.strips(tiling.strip):
                here = x.read(strip)
                g = step.finish(here, following.read(strip), plan, slope, strip).cpu()
                following.write(strip, here - alpha * length(t, wanted) * g)
            if large is not None:
                large.project(following, t)
            if probe is not None:
                probe(following, t + 1)
            job.finished(t + 1, keep_first=large is not None)
        return job.result()


@torch.no_grad()
def encode_in_tiles(
    update: GramUpdate, style: Tensor | Parts, *, regions: Tensor | None = None, memory: int = MEMORY
) -> EncodedStyle:
    """Return ``update.encode(style, regions)`` of a large style image (1, 3, H, W), tile by tile.

    A style is encoded at the size of the photograph, so for a large one this is where the memory would go first.
    """
    source = InMemory(style) if isinstance(style, Tensor) else style
    if regions is not None and regions.shape[-2:] != source.shape[-2:]:
        raise ValueError(f"regions {tuple(regions.shape)} do not lie on the style image {source.shape}")
    tiles = Tiling(update.architecture, *source.shape[1:], memory).for_sums
    like = next(update.parameters())

    def weights(where: Rectangle) -> Tensor | None:
        return None if regions is None else regions[(slice(None), *where.slices)].to(like)

    gradients = cast(Sequence[GramGradient], update.gradients)
    return tuple(g.carry_over(_add_up(g, source, tiles, weights, about_mean=True)) for g in gradients)


class _Large(Protocol):
    def project(self, x: Canvas, t: int) -> None:
        """Replace a picture by its projection."""


def _projector(
    options: ProjectorOptions | None, photograph: Canvas, tiling: Tiling, memory: int, steps: int
) -> _Large | None:
    if options is None or options.idle:
        return None
    if options.name == "box":
        return _PixelByPixel(cast(Operator, build_projector(options, torch.empty(0), steps=steps)), tiling.strip)
    options, share = options.at_full_strength(steps)
    around = options.domain == "difference"
    if options.name == "matting-energy":
        return TiledBall(photograph, tiling, options.energy, eps=options.eps, around=around)
    if options.name == "tikhonov-coarse":
        return TiledTikhonov(photograph, tiling, options.gamma, eps=options.eps, around=around, share=share)
    return CarriedProjector(
        options, photograph, pixels=min(REDUCED_PIXELS, memory // 500), strip=tiling.strip, share=share
    )


class _PixelByPixel:
    def __init__(self, operator: Operator, strip: int) -> None:
        self._operator, self._strip = operator, strip

    def project(self, x: Canvas, t: int) -> None:
        for strip in x.strips(self._strip):
            x.write(strip, self._operator(x.read(strip), t=t))


@dataclass
class _Ticks:
    """Counts tiles for a progress."""

    progress: Progress | None
    total: int
    done: int = 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


class _Step:
    """One g_t on tiles."""

    def __init__(
        self, gradient: GramGradient, style: EncodedStyle | Regional, t: int, tick: Callable[[], None]
    ) -> None:
        self._gradient, self._tick = gradient, tick
        self._regional = style if isinstance(style, Regional) else None
        self._style = (style.styles if isinstance(style, Regional) else style)[t]
        self._parameter = next(gradient.parameters())

    def plan(self, x: Canvas, tiles: Sequence[Tile]) -> Plan:
        """Return the plan, of the sums over all tiles."""
        return self._gradient.plan(_add_up(self._gradient, x, tiles, self._weights, tick=self._tick), self._style)

    def displace(self, x: Canvas, d: Canvas, plan: Plan, tiles: Sequence[Tile]) -> Tensor | None:
        """Write the displacement and return its slope."""
        slope: Tensor | None = None
        count = d.shape[1] * d.shape[2]
        for tile in tiles:
            image = x.read(tile.outer).to(self._parameter)
            weights = pyramid(self._weights(tile.outer), len(self._gradient.levels))
            found = self._gradient.displacement(image, self._gradient.features(image), plan, weights)
            found = tile.inner(found)
            d.write(tile.core, found)
            part = self._gradient.slope(found)
            if part is not None:
                part = part.double() * (found.shape[-2] * found.shape[-1] / count)
                slope = part if slope is None else slope + part
            self._tick()
        return None if slope is None else slope.to(self._parameter)

    def finish(self, x: Tensor, d: Tensor, plan: Plan, slope: Tensor | None, where: Rectangle) -> Tensor:
        """Return g_t of some pixels."""
        x, d = x.to(self._parameter), d.to(self._parameter)
        return self._gradient.finish(x, d, plan, slope, self._weights(where))

    def _weights(self, where: Rectangle) -> Tensor | None:
        return None if self._regional is None else self._regional.within(where.slices, self._parameter)


def _add_up(
    gradient: GramGradient,
    x: Parts,
    tiles: Sequence[Tile],
    weights: Callable[[Rectangle], Tensor | None],
    *,
    about_mean: bool | None = None,
    tick: Callable[[], None] = lambda: None,
) -> list[Sums]:
    """Return the sums of a gradient over all tiles, in the dtype of its parameters."""
    like = next(gradient.parameters())
    total: list[Sums] = []
    for tile in tiles:
        image = x.read(tile.outer).to(like)
        levels = pyramid(weights(tile.outer), len(gradient.levels))
        taps = [tile.inner(outputs[-1], l) for l, outputs in enumerate(gradient.features(image))]
        inner = [None if m is None else tile.inner(m, l) for l, m in enumerate(levels)]
        found = gradient.sums(tile.inner(image), taps, inner, about_mean=about_mean)
        total = [a.merge(b) for a, b in zip(total, found, strict=True)] if total else found
        tick()
    return [s.to(like) for s in total]


def _digest(update: GramUpdate, style: EncodedStyle | Regional, options: object) -> hashlib._Hash:
    """Return the hash of all inputs but the content."""
    found = hashlib.sha256(repr((update.architecture, options)).encode())
    tensors = [*update.state_dict().values()]
    tensors += [part for step in (style.styles if isinstance(style, Regional) else style) for m in step for part in m]
    tensors += [style.masks] if isinstance(style, Regional) else []
    for tensor in tensors:
        found.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    return found
