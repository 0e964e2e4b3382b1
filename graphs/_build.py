"""How Laplacians are made: from images, point clouds and sparse matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor

from graphs._laplacian import FloatArray, IntArray, Laplacian, SparseLaplacian, StencilLaplacian


def matting(image: Tensor, *, radius: int = 1, eps: float = 1e-7) -> Laplacian:
    r"""Return the matting Laplacian of an image.

    .. math:: L_{ij} = \sum_{w \ni i, j} \delta_{ij}
              - \frac{1}{|w|} (1 + (I_i - \mu_w)^T (\Sigma_w + \tfrac{eps}{|w|} \mathrm{Id})^{-1} (I_j - \mu_w))

    over the square windows w of side 2 radius + 1 that lie inside the image; x^T L x measures how far x is from an
    affine function of the colours in each window. Constants lie in the kernel; the entries may have either sign.

    Args:
        image: (C, H, W) or (1, C, H, W), any number of channels, floating, in [0, 1]; H and W at least 2 radius + 1.
        radius: of the windows, at least 1; the stencil has (4 radius + 1)^2 points.
        eps: > 0, in squared units of the image; larger is smoother.

    Built in float64 on the CPU whatever the image's dtype and device; no gradient reaches the image. Cost a pixel:
    (2 radius + 1)^4 C operations, ((4 radius + 1)^2 - 1) / 2 stored weights (12 for radius 1). Raises ValueError, and
    TypeError for integer images.

    Source: A. Levin, D. Lischinski, Y. Weiss, "A closed-form solution to natural image matting", PAMI 2008.
    """
    pixels = _pixels(image)
    _, height, width = pixels.shape
    if not isinstance(radius, int) or radius < 1:
        raise ValueError(f"radius must be an integer of at least 1, got {radius}")
    if not (eps > 0 and math.isfinite(eps)):
        raise ValueError(f"eps must be a positive number, got {eps}")
    size = 2 * radius + 1
    if min(height, width) < size:
        raise ValueError(
            f"an image of {height} x {width} pixels holds no window of {size} x {size}: "
            f"enlarge it or reduce radius={radius}"
        )
    from graphs._kernels import matting_diagonals

    reach = 2 * radius
    offsets = [(dy, dx) for dy in range(reach + 1) for dx in range(-reach, reach + 1) if (dy, dx) > (0, 0)]
    weights = np.zeros((len(offsets), height, width))
    strips = -(-(height - reach) // (4 * size))
    for parity in (0, 1):
        matting_diagonals((strips - parity + 1) // 2, parity, pixels, radius, float(eps), weights)
    shifts = np.array([dy * width + dx for dy, dx in offsets])
    # Each window adds a matrix between 0 and the identity, and a pixel lies in at most size^2 windows.
    laplacian = StencilLaplacian(shifts, weights.reshape(len(offsets), -1), (height, width), bound=float(size**2))
    laplacian.near_kernel = pixels.reshape(len(pixels), -1).T.copy()  # the pixels may be the caller's own memory
    return laplacian


def grid(image_or_shape: Tensor | tuple[int, int], *, neighbours: int = 4, sigma: float = 0.1) -> Laplacian:
    """Return L = D - W of the pixel grid, W_ij = exp(-||I_i - I_j||^2 / (2 sigma^2)) for neighbouring pixels i, j.

    Args:
        image_or_shape: (C, H, W) or (1, C, H, W), floating, in [0, 1]; or (H, W), standing for a constant image: every
            weight is 1.
        neighbours: 4, or 8 to add the diagonal ones (weighted by colour alone, like the others).
        sigma: > 0, in units of the image; math.inf makes every weight 1.

    Built in float64; no gradient reaches the image. Stores neighbours / 2 weights a pixel. Raises ValueError, and
    TypeError for integer images.

    Source: J. Shi and J. Malik, "Normalized cuts and image segmentation", PAMI 2000, for the weights.
    """
    if neighbours not in (4, 8):
        raise ValueError(f"neighbours must be 4 or 8, got {neighbours}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    if isinstance(image_or_shape, Tensor):
        pixels = _pixels(image_or_shape)
    else:
        if len(image_or_shape) != 2 or min(image_or_shape) < 1:
            raise ValueError(f"a grid needs a shape (H, W) of at least one pixel, got {tuple(image_or_shape)}")
        pixels = np.zeros((1, *image_or_shape))
    _, height, width = pixels.shape
    offsets = [(0, 1), (1, 0), (1, 1), (1, -1)][: neighbours // 2]
    weights = np.zeros((len(offsets), height, width))
    for weight, (dy, dx) in zip(weights, offsets, strict=True):
        here = slice(0, height - dy), slice(max(-dx, 0), width - max(dx, 0))
        there = slice(dy, height), slice(max(dx, 0), width - max(-dx, 0))
        distance = ((pixels[:, *here] - pixels[:, *there]) ** 2).sum(axis=0)
        weight[here] = -np.exp(-distance / (2 * sigma**2))
    shifts = np.array([dy * width + dx for dy, dx in offsets])
    reachable = shifts > 0  # a picture one pixel wide has no diagonal neighbours
    return StencilLaplacian(shifts[reachable], weights.reshape(len(offsets), -1)[reachable], (height, width))


def knn(features: Tensor | FloatArray, k: int, *, sigma: float | None = None) -> Laplacian:
    """Return L = D - W of the k-nearest-neighbour graph of n points, W_ij = exp(-||f_i - f_j||^2 / (2 sigma^2)).

    Nodes i and j are joined where either is among the k nearest of the other (union), so degrees vary from k up. A
    point is never its own neighbour, and points at the same place are each other's: they count among the k like any
    others. Ties are broken by the tree.

    Args:
        features: (n, d), finite, real; scale the columns first if their units differ.
        k: neighbours of each point, 1 <= k < n.
        sigma: > 0, in units of the features; None takes the mean distance to the k neighbours (1 where that is 0).

    Computed in float64 on the CPU by scipy's cKDTree: O(n log n) for few columns. Raises ValueError.
    """
    points = np.asarray(
        features.detach().cpu().double() if isinstance(features, Tensor) else features, dtype=np.float64
    )
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(f"features must be a matrix (n, d), got the shape {points.shape}")
    n = len(points)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < n:
        raise ValueError(f"k must be an integer with 1 <= k < n = {n}, got {k}")
    if not np.isfinite(points).all():
        raise ValueError("features must be finite, got NaN or infinite ones")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    found: tuple[FloatArray, IntArray] = cKDTree(points).query(points, k + 1)  # type: ignore[assignment]
    distances, indices = found
    # Among duplicates a point need not come first, nor come at all: drop it where it is, else drop the farthest.
    other = indices != np.arange(n)[:, None]
    other[other.all(axis=1), -1] = False
    columns, distances = indices[other], distances[other]
    if sigma is None:
        sigma = float(distances.mean()) or 1.0
    rows = np.repeat(np.arange(n), k)
    directed = sparse.csr_array((np.exp(-((distances / sigma) ** 2) / 2), (rows, columns)), shape=(n, n))
    adjacency = directed.maximum(directed.T)
    return SparseLaplacian(sparse.csr_array(sparse.diags_array(adjacency.sum(axis=1)) - adjacency))


def from_scipy(matrix: Any, *, grid_shape: tuple[int, int] | None = None) -> Laplacian:
    """Return the Laplacian with the entries of a scipy sparse matrix (n, n), symmetric positive semi-definite.

    Symmetry is checked to 1e-10 of the largest entry and then made exact; positive semi-definiteness is the caller's to
    ensure. Constants need not lie in the kernel (normalised Laplacians). ``grid_shape`` = (H, W), H W = n, lets signals
    be images. Computed in float64. Raises ValueError.
    """
    shape: tuple[int, ...] = getattr(matrix, "shape", ())
    if not sparse.issparse(matrix) or len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(
            f"the Laplacian must be a square scipy sparse matrix, got {type(matrix).__name__} of shape {shape}"
        )
    entries: Any = matrix
    if entries.dtype.kind not in "fiu":
        raise ValueError(f"the Laplacian must be real, got a matrix of {entries.dtype}")
    matrix = sparse.csr_array(entries, dtype=np.float64)
    if not np.isfinite(matrix.data).all():
        raise ValueError("the Laplacian must be finite, got NaN or infinite entries")
    defect, scale = abs(matrix - matrix.T).max(), abs(matrix).max()
    if defect > 1e-10 * scale:
        raise ValueError(
            f"the Laplacian must be symmetric, |L - L^T| reaches {defect:.1e}: take (L + L^T) / 2 if that is meant"
        )
    if matrix.diagonal().min() < 0:
        raise ValueError(
            f"the Laplacian must be positive semi-definite, its diagonal reaches {matrix.diagonal().min():.1e}"
        )
    if grid_shape is not None and math.prod(grid_shape) != matrix.shape[0]:
        raise ValueError(
            f"grid_shape {grid_shape} has {math.prod(grid_shape)} pixels, the Laplacian {matrix.shape[0]} rows"
        )
    return SparseLaplacian(sparse.csr_array((matrix + matrix.T) / 2), grid_shape)


def _pixels(image: Tensor) -> FloatArray:
    """Return an image (C, H, W) or (1, C, H, W) in [0, 1] as a float64 array (C, H, W), checked."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        found = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"an image must be a floating torch tensor in [0, 1], got {found}: divide by 255.0 first")
    if image.ndim == 4 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"an image must be (C, H, W) or (1, C, H, W), got the shape {tuple(image.shape)}")
    pixels = image.detach().to("cpu", torch.float64).contiguous().numpy()
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # NaN fails it too
        raise ValueError(
            f"the values of an image must lie in [0, 1], got {low:.3g} to {high:.3g}: divide by 255 or clamp(0, 1)"
        )
    return pixels
