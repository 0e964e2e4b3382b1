"""How a picture is cut into tiles that fit the memory."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from apps.style_transfer.learned.update import Architecture
from apps.style_transfer.tiles.canvas import Rectangle


class Tile(NamedTuple):
    """``core``, the pixels that the tile answers for, within ``outer``, those it looks at."""

    core: Rectangle
    outer: Rectangle

    def inner(self, y: Tensor, level: int = 0) -> Tensor:
        """Return the core of what was computed of the outer rectangle, at 1 / 2^level of the resolution."""
        scale = 2**level
        top, left = (self.core.top - self.outer.top) // scale, (self.core.left - self.outer.left) // scale
        bottom, right = (-((o - c) // scale) for o, c in zip(self.outer[::2], self.core[1::2], strict=True))
        return y[..., top:bottom, left:right]


class Tiling:
    """How a picture is cut: into the fewest tiles of equal size of which one, with its halo, fits the memory.

    Tiles begin at multiples of 2^(L-1), so that the means of the levels are those of the whole picture; where a tile
    meets the border of the picture, the picture's padding is its own.

    Attributes:
        tiles: with halos for the whole of an update.
        for_sums: the same with the narrower halo of the forward maps.
        strip: rows that a pass pixel by pixel takes at a time, within a quarter of the memory.
    """

    def __init__(self, architecture: Architecture, height: int, width: int, memory: int) -> None:
        self.height, self.width = height, width
        self._align = 2 ** (len(architecture.channels) - 1)
        whole, forward = (self._align * math.ceil(reach / self._align) for reach in reaches(architecture))
        least = working_set(architecture, min(height, 2 * whole + 64), min(width, 2 * whole + 64))
        if memory < least:
            raise ValueError(f"tiles need at least {least / 1e6:.0f} MB of memory, got {memory / 1e6:.0f}")
        # The largest side that fits, then the tiles made equal.
        pixel = working_set(architecture, 1000, 1000) / 1e6
        side = max(2 * whole + 64, math.isqrt(int(memory / pixel)))
        if height * width * pixel <= memory:
            rows, columns = height, width
        else:
            rows, columns = (min(length, side) for length in (height, width))
            # What a narrow picture leaves of the memory goes to the other side.
            rows = max(rows, min(height, int(memory / pixel / columns)))
            columns = max(columns, min(width, int(memory / pixel / rows)))
        self._cores = self._cut(height, rows, whole), self._cut(width, columns, whole)
        self.tiles, self.for_sums = self.with_halo(whole), self.with_halo(forward)
        self.strip = max(1, min(height, memory // (800 * width)))

    def _cut(self, length: int, outer: int, halo: int) -> list[tuple[int, int]]:
        if outer >= length:
            return [(0, length)]
        side = (outer - 2 * halo) // self._align * self._align
        count = math.ceil(length / side)
        side = math.ceil(length / count / self._align) * self._align
        return [(start, min(length, start + side)) for start in range(0, length, side)]

    def with_halo(self, halo: int) -> list[Tile]:
        """Return the tiles, of the same cores, with so many pixels around each."""
        return [
            Tile(
                Rectangle(top, bottom, left, right),
                Rectangle(
                    max(0, top - halo),
                    min(self.height, bottom + halo),
                    max(0, left - halo),
                    min(self.width, right + halo),
                ),
            )
            for top, bottom in self._cores[0]
            for left, right in self._cores[1]
        ]


def working_set(architecture: Architecture, height: int, width: int) -> int:
    """Return about how many bytes one step takes on a picture or tile of a size, beside the process and the weights."""
    # The outputs of all convolutions are kept for the way down, and the D_l; some maps of the largest size are in hand.
    # Measured on the shipped architecture: 1030 bytes a pixel, of which this says 1072.
    each = [c / 4.0**l for l, c in enumerate(architecture.channels)]
    kept = sum(c * (k + 1) for c, k in zip(each, architecture.convolutions, strict=True))
    return math.ceil(4 * height * width * (kept + 10 * max(each) + 12))


def reaches(architecture: Architecture) -> tuple[int, int]:
    """Return how far beyond an aligned tile its update looks, and how far its features, in pixels."""
    depth = range(len(architecture.convolutions))

    def up(reach: int) -> int:
        for l in reversed(depth):
            reach = (2 * reach if l < depth[-1] else reach) + architecture.convolutions[l]
        return reach

    down = architecture.convolutions[0]
    for convolutions in architecture.convolutions[1:]:
        down = math.ceil(down / 2) + convolutions
    return up(down), up(0)
