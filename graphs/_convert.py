"""Laplacians from matrices, edges and the graphs of other libraries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphs._laplacian import FloatArray, Laplacian
from graphs._sparse import EdgeLaplacian, SparseLaplacian

if TYPE_CHECKING:
    import networkx


def from_scipy(matrix: Any, *, grid_shape: tuple[int, ...] | None = None) -> SparseLaplacian:
    """Return the Laplacian with the entries of a scipy sparse matrix (n, n), symmetric positive semi-definite.

    Symmetry is checked to 1e-10 of the largest entry and then made exact; positive semi-definiteness is the caller's to
    ensure. Constants need not lie in the kernel (normalised Laplacians). ``grid_shape`` = (H, W), H W = n, lets signals
    be images, (D, H, W) videos. Computed in float64. Raises ValueError.
    """
    if not sparse.issparse(matrix):
        raise ValueError(f"the Laplacian must be a square scipy sparse matrix, got {type(matrix).__name__}")
    checked = _symmetric(matrix, "the Laplacian")
    _refuse_indefinite(checked.diagonal())
    return SparseLaplacian(checked, _fitting(grid_shape, checked.shape[0]))


def from_adjacency(
    adjacency: Any, *, signed: bool = False, grid_shape: tuple[int, ...] | None = None
) -> SparseLaplacian:
    """Return L = D - W of a weighted adjacency matrix W (n, n), D_ii = sum_j W_ij.

    Args:
        adjacency: a scipy sparse matrix, a dense numpy array or a torch tensor, dense or sparse; real, finite, n >= 1.
            Asymmetry above 1e-10 of the largest weight is refused, below it is averaged out. Self-loops W_ii cancel in
            D - W: they change nothing, nor do they count in :meth:`Laplacian.normalized`.
        signed: negative weights are refused unless this is true; then that L is positive semi-definite is the caller's
            to ensure.
        grid_shape: (H, W), H W = n, lets signals be images, (D, H, W) videos.

    Of a torch tensor that requires a gradient, the products L x and x^T L x are differentiable in its non-zero entries,
    W_ij and W_ji sharing alike, as those of :func:`from_edges`. Computed in float64; kept on the CPU. Raises
    ValueError.
    """
    if isinstance(adjacency, Tensor):
        if adjacency.ndim != 2:
            raise ValueError(f"the adjacency must be a square matrix, got the shape {tuple(adjacency.shape)}")
        entries = adjacency.to_sparse().coalesce()
        values, (i, j) = entries.values().detach().cpu().double().numpy(), entries.indices().cpu().numpy()
        checked = _symmetric(sparse.coo_array((values, (i, j)), shape=tuple(adjacency.shape)), "the adjacency")
        if adjacency.requires_grad:
            _refuse_negative(checked, signed)
            # Every edge is there twice, once from each side.
            return EdgeLaplacian(
                entries.indices(), entries.values() / 2, len(adjacency), _fitting(grid_shape, len(adjacency))
            )
    else:
        checked = _symmetric(adjacency, "the adjacency")
    _refuse_negative(checked, signed)
    matrix = sparse.csr_array(sparse.diags_array(checked.sum(axis=1)) - checked)
    _refuse_indefinite(matrix.diagonal())
    return SparseLaplacian(matrix, _fitting(grid_shape, matrix.shape[0]))


def from_edges(
    edges: Tensor, weights: Tensor, n: int, *, signed: bool = False, grid_shape: tuple[int, ...] | None = None
) -> EdgeLaplacian:
    """Return L = sum over edges (i, j) of w_ij (e_i - e_j)(e_i - e_j)^T, whose products are differentiable in the w_ij.

    Args:
        edges: (2, m), integers from 0 to n - 1, each undirected edge once; the weights of repeated ones add up, and
            self-loops do nothing.
        weights: (m,), floating, finite. Where they require a gradient, it comes from :meth:`Laplacian.matvec`,
            :meth:`Laplacian.quadratic`, :class:`Tikhonov`, :class:`SpectralFilter`, :class:`FilterBank` and
            :class:`ChebyshevLowPass`, also of :meth:`Laplacian.normalized`; for eigenvectors, cutoffs, ``lambda_max``
            and :meth:`Laplacian.combine` they are constants. Make a new Laplacian after each step of an optimiser: this
            one keeps the weights that it was made from.
        n: number of nodes, at least 1.
        signed, grid_shape: as for :func:`from_adjacency`.

    Raises ValueError or TypeError.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"a graph needs n >= 1 nodes, got {n}")
    if not isinstance(edges, Tensor) or not isinstance(weights, Tensor):
        raise TypeError(
            f"edges and weights must be torch tensors, got {type(edges).__name__}, {type(weights).__name__}"
        )
    if edges.ndim != 2 or edges.shape[0] != 2 or weights.shape != edges.shape[1:]:
        raise ValueError(f"edges must be (2, m) and weights (m,), got {tuple(edges.shape)} and {tuple(weights.shape)}")
    if edges.is_floating_point() or edges.is_complex() or not weights.is_floating_point():
        raise TypeError(f"edges must be integers and weights floating, got {edges.dtype} and {weights.dtype}")
    if edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= n):
        raise ValueError(f"edges must join nodes 0 to {n - 1}, got {int(edges.min())} to {int(edges.max())}")
    if not bool(torch.isfinite(weights).all()):
        raise ValueError("the weights must be finite, got NaN or infinite ones")
    if not signed and weights.numel() and (least := float(weights.detach().min())) < 0:
        raise ValueError(_negative(least))
    return EdgeLaplacian(edges.to(weights.device, torch.int64), weights, n, _fitting(grid_shape, n))


def from_networkx(
    graph: networkx.Graph[Any],
    *,
    weight: str | None = "weight",
    signed: bool = False,
    grid_shape: tuple[int, ...] | None = None,
) -> SparseLaplacian:
    """Return L = D - W of an undirected networkx graph, its nodes in the order of ``list(graph)``.

    ``weight`` names the attribute of the edges that holds their weights, 1 where it is missing; None makes all of them
    1. Parallel edges add up, self-loops and the other arguments are as in :func:`from_adjacency`. Raises ValueError.
    """
    import networkx

    if graph.is_directed():
        raise ValueError("the graph is directed, a Laplacian here is symmetric: pass graph.to_undirected()")
    if len(graph) == 0:
        raise ValueError("the graph has no nodes")
    adjacency = networkx.to_scipy_sparse_array(graph, weight=weight, dtype=np.float64, format="csr")
    return from_adjacency(adjacency, signed=signed, grid_shape=grid_shape)


def from_pygsp(graph: Any, *, signed: bool = False, grid_shape: tuple[int, ...] | None = None) -> Laplacian:
    """Return the Laplacian of an undirected pygsp graph, normalised where its ``lap_type`` is.

    The arguments are as in :func:`from_adjacency`. Self-loops, which its normalised Laplacian counts and ours does not,
    are refused there. Raises ValueError.
    """
    if graph.is_directed():
        raise ValueError("the graph is directed, a Laplacian here is symmetric: symmetrise its weights first")
    laplacian = from_adjacency(graph.W, signed=signed, grid_shape=grid_shape)
    if graph.lap_type != "normalized":
        return laplacian
    if graph.W.diagonal().any():
        raise ValueError("the graph has self-loops, which normalized() does not count: remove them from its weights")
    return laplacian.normalized()


def _symmetric(matrix: Any, what: str) -> sparse.csr_array:
    """Return a scipy sparse or dense matrix in float64, checked to be square, real, finite and symmetric."""
    if not sparse.issparse(matrix):
        matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"{what} must be a square matrix of at least one node, got the shape {matrix.shape}")
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"{what} must be real, got a matrix of {matrix.dtype}")
    entries = sparse.csr_array(matrix, dtype=np.float64)
    if not np.isfinite(entries.data).all():
        raise ValueError(f"{what} must be finite, got NaN or infinite entries")
    defect, scale = abs(entries - entries.T).max(), abs(entries).max()
    if defect > 1e-10 * scale:
        raise ValueError(
            f"{what} must be symmetric, |M - M^T| reaches {defect:.1e}: take (M + M^T) / 2 if that is meant"
        )
    return sparse.csr_array((entries + entries.T) / 2)


def _fitting(grid_shape: tuple[int, ...] | None, n: int) -> tuple[int, ...] | None:
    """Return the grid shape, checked to have n pixels."""
    if grid_shape is None:
        return None
    shape = tuple(grid_shape)
    if not 1 <= len(shape) <= 3 or math.prod(shape) != n:
        raise ValueError(f"grid_shape {shape} has {math.prod(shape)} pixels, the graph {n} nodes")
    return shape


def _refuse_negative(adjacency: sparse.csr_array, signed: bool) -> None:
    least = float(adjacency.min())
    if least < 0 and not signed:
        raise ValueError(_negative(least))


def _refuse_indefinite(diagonal: FloatArray) -> None:
    if diagonal.min() < 0:
        raise ValueError(f"the Laplacian must be positive semi-definite, its diagonal reaches {diagonal.min():.1e}")


def _negative(least: float) -> str:
    return (
        f"the weights must not be negative, got {least:.3g}: "
        "pass signed=True where D - W is known to be positive semi-definite"
    )
