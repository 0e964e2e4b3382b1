"""Laplacians of regular grids: signals, images and videos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np
from torch import Tensor

from graphs._laplacian import FloatArray, StencilLaplacian
from graphs._memory import require_memory
from graphs._pixels import pixel_array, with_features


def grid(
    image_or_shape: Tensor | tuple[int, ...],
    *,
    neighbours: int | None = None,
    sigma: float = 0.1,
    weights: Literal["gaussian", "cauchy"] = "gaussian",
    features: Tensor | None = None,
    spacing: Sequence[float] | None = None,
) -> StencilLaplacian:
    """Return L = D - W of the pixel grid, W_ij = g(||I_i - I_j|| / sigma) for neighbouring pixels i, j.

    Args:
        image_or_shape: an image (C, H, W) or (1, C, H, W), a video (1, C, D, H, W) or a signal (C, W), floating, in
            [0, 1]; or the shape alone, (H, W), (D, H, W) or (W,), standing for a constant image.
        neighbours: those along the axes (2, 4, 6 in one, two, three dimensions), which None stands for, or those that
            share a corner too (8 and 26), weighted alike.
        sigma: > 0, in units of the image; math.inf makes every g equal 1.
        weights: "gaussian", g(d) = exp(-d^2 / 2); "cauchy", g(d) = 1 / (1 + d^2), whose tail leaves no pixel isolated.
        features: (F, H, W), or as the image is, to be compared beside the colours, finite and of any range.
        spacing: lengths > 0 between neighbours along each axis, (h_y, h_x) for an image; W_ij is then divided by the
            squared length of the edge, as finite differences are. None divides by nothing, diagonal edges included.

    ``lambda_max`` is at most that of the infinite grid whose weights in each direction are the greatest found: within a
    few per cent where some part of the image has weights near these, as flat parts have.

    Built in float64; no gradient reaches the image. Stores neighbours / 2 weights a pixel. Raises ValueError, TypeError
    for integer images, and MemoryError, before it begins, for grids that are too large.

    Sources of the weights: J. Shi, J. Malik, "Normalized cuts and image segmentation", PAMI 2000; P. Perona, J. Malik,
    "Scale-space and edge detection using anisotropic diffusion", PAMI 1990.
    """
    if isinstance(image_or_shape, Tensor):
        pixels = pixel_array(image_or_shape, dimensions=(1, 2, 3))
    else:
        shape = tuple(image_or_shape)
        if not 1 <= len(shape) <= 3 or min(shape) < 1:
            raise ValueError(f"a grid needs a shape (W,), (H, W) or (D, H, W) of at least one pixel, got {shape}")
        pixels = np.zeros((1, *shape))
    pixels, shape = with_features(pixels, features), pixels.shape[1:]
    axes = len(shape)
    allowed = (2 * axes, 3**axes - 1)
    if neighbours is not None and neighbours not in allowed:
        raise ValueError(f"neighbours must be {' or '.join(map(str, sorted(set(allowed))))}, got {neighbours}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    if weights not in ("gaussian", "cauchy"):
        raise ValueError(f"weights must be 'gaussian' or 'cauchy', got {weights!r}")
    if spacing is not None and (len(spacing) != axes or not all(h > 0 and math.isfinite(h) for h in spacing)):
        raise ValueError(f"spacing must be {axes} positive lengths, one for each axis, got {tuple(spacing)}")
    reach = 1 if neighbours in (None, 2 * axes) else axes
    # One of each pair of opposite offsets, but those that no two pixels have, on an axis of a single pixel.
    offsets = [
        o
        for o in product((-1, 0, 1), repeat=axes)
        if o > (0,) * axes and np.abs(o).sum() <= reach and (np.abs(o) < shape).all()
    ]
    steps = [math.prod(shape[i + 1 :]) for i in range(axes)]
    shifts = np.array([sum(a * b for a, b in zip(o, steps, strict=True)) for o in offsets], dtype=np.int64)
    require_memory(
        8.0 * math.prod(shape) * (len(offsets) + 2 * len(pixels) + 3),
        f"the Laplacian of a grid of {' x '.join(map(str, shape))}",
        "use a smaller one",
    )
    found = np.zeros((len(offsets), *shape))
    for weight, offset in zip(found, offsets, strict=True):
        here = tuple(slice(max(-o, 0), length - max(o, 0)) for o, length in zip(offset, shape, strict=True))
        there = tuple(slice(max(o, 0), length - max(-o, 0)) for o, length in zip(offset, shape, strict=True))
        squares = ((pixels[:, *here] - pixels[:, *there]) ** 2).sum(axis=0) / sigma**2
        length = 1.0 if spacing is None else sum((o * h) ** 2 for o, h in zip(offset, spacing, strict=True))
        weight[here] = -(np.exp(-squares / 2) if weights == "gaussian" else 1 / (1 + squares)) / length
    found = found.reshape(len(offsets), math.prod(shape))
    return StencilLaplacian(shifts, found, shape, bound=_symbol_bound(offsets, -found.min(axis=1), axes))


def _symbol_bound(offsets: list[tuple[int, ...]], greatest: FloatArray, axes: int) -> float:
    """Return max over theta of sum_o 2 w_o (1 - cos <o, theta>), the spectrum's top on the infinite grid.

    A Laplacian grows with its weights, and with the grid. With one weight for offsets that mirror each other, the sum
    is linear in each cos(theta_i) by itself, so that its maximum lies where every theta_i is 0 or pi.
    """
    largest: dict[tuple[int, ...], float] = {}
    for offset, weight in zip(offsets, greatest.tolist(), strict=True):
        mirrored = tuple(map(abs, offset))
        largest[mirrored] = max(largest.get(mirrored, 0.0), weight)
    corners = product((0, 1), repeat=axes)
    return max(sum(4 * largest[tuple(map(abs, o))] for o in offsets if np.dot(o, corner) % 2) for corner in corners)
