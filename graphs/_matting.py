"""The matting Laplacian."""

from __future__ import annotations

import math
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from graphs._laplacian import FloatArray, IntArray, StencilLaplacian
from graphs._memory import require_memory
from graphs._pixels import pixel_array, with_features


def matting(
    image: Tensor,
    *,
    radius: int = 1,
    eps: float = 1e-7,
    features: Tensor | None = None,
    border: Literal["inside", "trimmed"] = "inside",
) -> StencilLaplacian:
    """Return the matting Laplacian of an image.

        L_ij = sum_{w containing i, j} delta_ij - 1/|w| (1 + (I_i - mu_w)^T (Sigma_w + eps/|w| Id)^-1 (I_j - mu_w))

    over square windows w of side 2 radius + 1; x^T L x measures how far x is from an affine function of the colours in
    each window. Constants lie in the kernel; the entries may have either sign. ``lambda_max`` is the size of a window,
    (2 radius + 1)^2, or less: within 1 % of the largest eigenvalue for a photograph, within 4 % for noise.

    Args:
        image: (C, H, W) or (1, C, H, W), any number of channels, floating, in [0, 1]; H and W at least 2 radius + 1.
        radius: of the windows, at least 1; the stencil has (4 radius + 1)^2 points.
        eps: > 0, in squared units of the image; larger is smoother.
        features: (F, H, W) or (1, F, H, W), further channels beside the colours (depth, normals, positions), finite and
            of any range; eps counts in their squared units too, so bring them to about [0, 1].
        border: "inside" takes the windows that lie inside the image, as Levin et al.; "trimmed" one window around
            every pixel, cut to the image, |w| being what is left of it, as the box means of He et al.: a corner
            pixel then lies in (radius + 1)^2 windows instead of one.

    Built in float64 on the CPU whatever the image's dtype and device; no gradient reaches the image. Cost a pixel:
    (2 radius + 1)^4 C operations, ((4 radius + 1)^2 - 1) / 2 stored weights (12 for radius 1). Raises ValueError,
    TypeError for integer images, and MemoryError, before it begins, for images that are too large.

    Sources: A. Levin, D. Lischinski, Y. Weiss, "A closed-form solution to natural image matting", PAMI 2008; K. He, J.
    Sun, X. Tang, "Guided image filtering", PAMI 2013, for trimmed windows.
    """
    pixels = with_features(pixel_array(image), features)
    channels, height, width = pixels.shape
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 1:
        raise ValueError(f"radius must be an integer of at least 1, got {radius}")
    if not (eps > 0 and math.isfinite(eps)):
        raise ValueError(f"eps must be a positive number, got {eps}")
    if border not in ("inside", "trimmed"):
        raise ValueError(f"border must be 'inside' or 'trimmed', got {border!r}")
    size = 2 * radius + 1
    if min(height, width) < size:
        raise ValueError(
            f"an image of {height} x {width} pixels holds no window of {size} x {size}: "
            f"enlarge it or reduce radius={radius}"
        )
    reach = 2 * radius
    offsets = [(dy, dx) for dy in range(reach + 1) for dx in range(-reach, reach + 1) if (dy, dx) > (0, 0)]
    require_memory(
        8.0 * height * width * (len(offsets) + 2 * channels + 4),
        f"the matting Laplacian of {height} x {width} pixels with radius {radius}",
        "use a smaller image or radius",
    )
    from graphs._kernels import matting_diagonals

    weights = np.zeros((len(offsets), height, width))
    strips = -(-(height - reach) // (4 * size))
    for parity in (0, 1):
        matting_diagonals((strips - parity + 1) // 2, parity, pixels, radius, float(eps), weights)
    if border == "trimmed":
        _add_border_windows(pixels, radius, float(eps), weights)
    shifts = np.array([dy * width + dx for dy, dx in offsets])
    # Each window adds a matrix between 0 and the identity, and a pixel lies in at most size^2 windows.
    laplacian = StencilLaplacian(shifts, weights.reshape(len(offsets), -1), (height, width), bound=float(size**2))
    # A view, for memory; but of a float64 image the pixels may be the caller's own.
    laplacian.near_kernel = (pixels.copy() if image.dtype == torch.float64 else pixels).reshape(channels, -1).T
    return laplacian


def _add_border_windows(pixels: FloatArray, radius: int, eps: float, weights: FloatArray) -> None:
    """Add the windows that stick out of the image, cut to it, to the upper off-diagonals of matting_diagonals."""
    channels, height, width = pixels.shape
    size = 2 * radius + 1
    colours, flat = pixels.reshape(channels, -1), weights.reshape(len(weights), -1)
    for (rows, tops), (columns, lefts) in product(_starts(height, radius), _starts(width, radius)):
        if rows == columns == size:
            continue
        area = rows * columns
        y, x = np.divmod(np.arange(area), columns)
        row = (y - y[:, None]) * (4 * radius + 1) + x - x[:, None] - 1
        corners = (tops[:, None] * width + lefts).ravel()
        for some in np.array_split(corners, -(-len(corners) * area**2 // 2**22)):
            nodes = some[:, None] + y * width + x
            centred = colours[:, nodes].transpose(1, 2, 0)
            centred = centred - centred.mean(axis=1, keepdims=True)
            covariances = (centred.transpose(0, 2, 1) @ centred + eps * np.eye(channels)) / area
            block = (1 + centred @ np.linalg.solve(covariances, centred.transpose(0, 2, 1))) / area
            for a in range(area):  # windows cut alike have their pixel a at different places: no index comes twice
                flat[row[a, a + 1 :], nodes[:, a, None]] -= block[:, a, a + 1 :]


def _starts(length: int, radius: int) -> list[tuple[int, IntArray]]:
    """Return each size that windows around 0, ..., length - 1 have when cut to [0, length), and where those begin."""
    centres = np.arange(length)
    first = np.maximum(centres - radius, 0)
    sizes = np.minimum(centres + radius + 1, length) - first
    return [(int(s), first[sizes == s]) for s in np.unique(sizes)]
