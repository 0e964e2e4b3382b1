"""Files too large for memory: tile by tile from whole numbers to whole numbers, see :mod:`tiles`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from apps.style_transfer.colour import with_chroma
from apps.style_transfer.files.images import resize
from apps.style_transfer.files.raster import Raster, Values
from apps.style_transfer.learned.gram_step import EncodedStyle
from apps.style_transfer.learned.regions import Regional
from apps.style_transfer.masks import Masks
from apps.style_transfer.solvers import Learned
from apps.style_transfer.style import Style, Weights
from apps.style_transfer.tiles.canvas import InMemory, Rows
from apps.style_transfer.tiles.enlarged import Enlarged
from apps.style_transfer.tiles.solver import Progress, encode_in_tiles, solve_in_tiles
from apps.style_transfer.tiles.tiling import working_set
from apps.style_transfer.transfer import (
    MEASURED_PIXELS,
    Options,
    Result,
    check_style,
    encode_styles,
    style_as_seen,
    style_size,
)

MEMORY = 1_200_000_000
"""Bytes that the solver may take, beside the program (0.6 GB) and the picture."""


@dataclass(frozen=True)
class Strips:
    """A raster, read by rows as floats in [0, 1]."""

    raster: Raster

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W)."""
        height, width = self.raster.values.shape[:2]
        return 3, height, width

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop - 1."""
        values = self.raster.values[start:stop]
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))).float() / int(
            np.iinfo(values.dtype).max
        )


def too_large(solver: Learned, height: int, width: int, memory: int) -> bool:
    """Return whether the solver would take more memory than it may on a picture of a size."""
    return working_set(solver.update.architecture, height, width) > memory


@torch.no_grad()
def restyle_large(
    solver: Learned,
    content: Strips | InMemory,
    styles: Sequence[tuple[str, Style | Tensor]],
    options: Options,
    weights: Weights,
    *,
    depth: int,
    memory: int,
    work: Path | None = None,
    masks: Masks | None = None,
    progress: Progress | None = None,
    probe: Callable[[Tensor, int], None] | None = None,
) -> tuple[Values, Result]:
    """Return what :func:`restyle` makes, up to rounding, of a picture of any size, and a reduced one for its figures.

    The projector may be that of a reduced copy, see :func:`solve_in_tiles`.

    Args:
        solver, options, weights, masks: as for :func:`restyle`.
        content: the photograph.
        styles: with their names.
        depth: of the values (H, W, 3) that are returned, 8 or 16 bits.
        memory: bytes that the tiles may take.
        work: a folder, from which an interrupted call goes on; None is one that goes with the call.
        progress: called with tiles done and all tiles.
        probe: called with (X^(t), t), the picture so far on about a megapixel.
    """
    _, height, width = content.shape
    data = _encode(solver, content, styles, options, weights, memory, masks)
    made: Values = np.empty((height, width, 3), f"uint{depth}")
    with solve_in_tiles(
        solver.update,
        content,
        data,
        alpha=options.alpha,
        projector=options.projector,
        memory=memory,
        steps=options.steps,
        work=work,
        progress=progress,
        probe=None if probe is None else lambda x, t: probe(_reduced(x), t),
    ) as canvas:
        for start, stop in _blocks(height, width):
            x = canvas.rows(start, stop)
            if not bool(x.isfinite().all()):
                raise ValueError("the learned solver diverged: make its steps shorter with a smaller alpha")
            x = x.clamp(0, 1)
            if options.preserve_color == "luminance":
                x = with_chroma(x[None], content.rows(start, stop)[None])[0]
            made[start:stop] = (x * (2**depth - 1)).round().permute(1, 2, 0).numpy().astype(made.dtype)
    first, last = _reduced(content), _reduced(Strips(Raster(made)))
    name = "none" if options.projector.idle else options.projector.name
    return made, Result(last, (first, last), 0.0, name)


def _encode(
    solver: Learned,
    content: Strips | InMemory,
    styles: Sequence[tuple[str, Style | Tensor]],
    options: Options,
    weights: Weights,
    memory: int,
    masks: Masks | None,
) -> EncodedStyle | Regional:
    _, height, width = content.shape
    # A photograph of this size without its memory, for those who only ask for that; only histograms look into it.
    photograph = torch.zeros(1, 1, 1, 1).expand(1, 3, height, width)
    if options.preserve_color == "histogram":
        photograph = content.rows(0, height)[None]
    if masks is not None and masks.style.shape[-2:] != (1, 1):
        found = encode_styles(solver, photograph, [style for _, style in styles], options, weights, masks)
        return cast(EncodedStyle | Regional, found)
    encoded = []
    for name, style in styles:
        if isinstance(style, Tensor):
            moments = encode_in_tiles(solver.update, _seen(style, photograph, options), memory=memory)
            style = Style(name, moments, weights.fingerprint)
        encoded.append(style)
    saved = any(isinstance(style, Style) for _, style in styles)
    plain = options if saved else replace(options, style_scale=1.0, preserve_color=None)
    return cast(EncodedStyle | Regional, encode_styles(solver, photograph, encoded, plain, weights, masks))


def _seen(style: Tensor, photograph: Tensor, options: Options) -> Tensor | Enlarged:
    """Return what :func:`style_as_seen` does; where it only has to be enlarged, without the memory of that."""
    longest = style_size(style, photograph.shape[-2:], options.style_scale)
    if longest <= max(style.shape[-2:]) or options.preserve_color == "histogram":
        return style_as_seen(style, photograph, options)
    check_style(style, longest)
    return Enlarged(style, longest)


def _blocks(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Give the rows of blocks of about a megapixel."""
    rows = max(1, (1 << 20) // width)
    for start in range(0, height, rows):
        yield start, min(height, start + rows)


def _reduced(content: Rows) -> Tensor:
    """Return a copy of about a megapixel, (1, 3, h, w)."""
    _, height, width = content.shape
    step = max(1, int((height * width / (4 * MEASURED_PIXELS)) ** 0.5))
    few = [content.rows(a, b)[:, (-a) % step :: step, ::step] for a, b in _blocks(height, width)]
    return resize(
        torch.cat(few, 1)[None], round(max(height, width) * min(1.0, (MEASURED_PIXELS / (height * width)) ** 0.5))
    )
