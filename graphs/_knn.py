"""Laplacians of nearest neighbours among points."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor

from graphs._laplacian import FloatArray, IntArray
from graphs._memory import require_memory
from graphs._sparse import SparseLaplacian

logger = logging.getLogger(__name__)

TREE_COLUMNS = 30  # patches of 3 x 3 colours and their place; beyond, a tree looks at nearly every point
BLOCK = 2**24  # distances compared at once


def knn(
    features: Tensor | FloatArray,
    k: int,
    *,
    sigma: float | None = None,
    symmetrise: Literal["union", "intersection", "mean"] = "union",
) -> SparseLaplacian:
    """Return L = D - W of the k-nearest-neighbour graph of n points, W_ij = exp(-||f_i - f_j||^2 / (2 sigma^2)).

    With A_ij = W_ij where j is among the k nearest of i, else 0, the graph has the weights

    - "union": max(A_ij, A_ji): joined where either is among the k nearest of the other; degrees vary from k up;
    - "intersection": min(A_ij, A_ji): joined where each is; degrees are at most k, and nodes may stay alone;
    - "mean": (A_ij + A_ji) / 2: as union, with half the weight where only one chose the other.

    A point is never its own neighbour, and points at the same place are each other's: they count among the k like any
    others. Ties are broken by the search. Where there are no k others, each point is joined to all of them. Of that, of
    more than k points that share a place, so that they have no other neighbours, and of a graph that comes apart into
    several components a warning (logging) says how many; see :meth:`Laplacian.components`.

    Args:
        features: (n, d), n >= 2, finite, real; scale the columns first if their units differ. :func:`pixel_features`
            makes those of an image: colour, position, patches.
        k: neighbours of each point, at least 1.
        sigma: > 0, in units of the features; None takes the mean distance to the k neighbours (1 where that is 0).
        symmetrise: as above.

    ``lambda_max`` is Collatz and Wielandt's bound, above by some 10 to 50 %: :meth:`Laplacian.tightened` is for that.

    Exact, in float64 on the CPU: scipy's cKDTree up to 30 columns, O(n log n) while they are few; beyond, all distances
    by blocks of matrix products, O(n^2 d), minutes from 10^5 points on. For 10 neighbours on one core, the blocks take
    2.5 times as long as the tree on 49,152 patches of 27 columns, a twentieth on 27,648 of 147, and half on points
    without structure in 20 to 30 columns. Faiss's HNSW index takes 0.4 of the tree's time on the first, and misses 1
    neighbour in 1,400: not worth a dependency. Neighbours found by any index go to :func:`from_edges`. Raises
    ValueError, and MemoryError before it begins.
    """
    points = np.asarray(
        features.detach().cpu().double() if isinstance(features, Tensor) else features, dtype=np.float64
    )
    if points.ndim != 2 or len(points) < 2 or points.shape[1] == 0:
        raise ValueError(f"features must be a matrix (n, d) of at least 2 points, got the shape {points.shape}")
    n = len(points)
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, got {k}")
    if not np.isfinite(points).all():
        raise ValueError("features must be finite, got NaN or infinite ones")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    if symmetrise not in ("union", "intersection", "mean"):
        raise ValueError(f"symmetrise must be 'union', 'intersection' or 'mean', got {symmetrise!r}")
    if k >= n:
        logger.warning("there are only %d points for k = %d: each is joined to the %d others", n, k, n - 1)
        k = n - 1
    tree = points.shape[1] <= TREE_COLUMNS
    require_memory(
        n * (16.0 * points.shape[1] + 150.0 * k) + (0 if tree else 16.0 * min(BLOCK, n**2)),
        f"the graph of {n} points with k = {k}",
        "take fewer points or a smaller k",
    )
    distances, indices = (_by_tree if tree else _by_blocks)(points, k + 1)
    # Among duplicates a point need not come first, nor come at all: drop it where it is, else drop the farthest.
    other = indices != np.arange(n)[:, None]
    other[other.all(axis=1), -1] = False
    crowded = int((distances[:, -1] == 0).sum())
    columns, distances = indices[other], distances[other]
    if crowded:
        logger.warning(
            "%d of %d points share their place with %d others or more: they are joined to such alone", crowded, n, k
        )
    if sigma is None:
        sigma = float(distances.mean()) or 1.0
    rows = np.repeat(np.arange(n), k)
    directed = sparse.csr_array((np.exp(-((distances / sigma) ** 2) / 2), (rows, columns)), shape=(n, n))
    adjacency = {
        "union": directed.maximum,
        "intersection": directed.minimum,
        "mean": lambda other: (directed + other) / 2,
    }[symmetrise](directed.T)
    laplacian = SparseLaplacian(sparse.csr_array(sparse.diags_array(adjacency.sum(axis=1)) - adjacency))
    components = laplacian.components()
    if components > 1:
        logger.warning("the graph of %d points with k = %d has %d components", n, k, components)
    return laplacian


def _by_tree(points: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Return the distances (n, k), ascending, and indices of the k nearest points of each, itself among them."""
    found: tuple[FloatArray, IntArray] = cKDTree(points).query(points, k, workers=torch.get_num_threads())  # type: ignore[assignment]
    return found


def _by_blocks(points: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
    """Return the same by comparing all points with each other."""
    n, d = points.shape
    x = torch.from_numpy(points - points.mean(axis=0))
    squares = x.square().sum(dim=1)
    distances, indices = torch.empty(n, k, dtype=torch.float64), torch.empty(n, k, dtype=torch.int64)
    # |a - b|^2 = |a|^2 - 2 <a, b> + |b|^2 cancels: it chooses a few more than k, the differences themselves decide.
    candidates = min(n, k + 8)
    block = max(1, BLOCK // (n + candidates * d))
    for start in range(0, n, block):
        rows = x[start : start + block]
        chosen = torch.topk(squares - 2 * rows @ x.T, candidates, dim=1, largest=False).indices
        exact = torch.linalg.vector_norm(x[chosen] - rows[:, None], dim=2)
        ordered, order = exact.sort(dim=1, stable=True)
        distances[start : start + block] = ordered[:, :k]
        indices[start : start + block] = chosen.gather(1, order[:, :k])
    return distances.numpy(), indices.numpy()
