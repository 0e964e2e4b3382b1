"""Graph Laplacians as operators: what they do. How they are built is in _build.py."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphs._signals import from_planes, self_adjoint, to_planes

if TYPE_CHECKING:
    import networkx

IntArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


class Laplacian:
    """A symmetric positive semi-definite matrix L (n, n) on the nodes of a graph.

    Signals are (n,), (n, c) or, where the nodes are the pixels of an image, (B, C, H, W), with n = H W in row-major
    order. The entries are built and kept in float64 on the CPU (see :meth:`to`), and are applied in the dtype of the
    signal (float32 or float64; half precision is computed in float32) and on its device: a copy is made for each such
    pair on first use, and kept. A Laplacian is never changed.

    Attributes: ``n``, ``shape`` = (n, n), ``grid_shape`` = (H, W) or None, ``lambda_max`` >= the largest eigenvalue,
    ``near_kernel`` (n, f) float64 or None: signals beside the constant that L nearly maps to zero locally (the channels
    of the image, for a matting Laplacian), for the coarse spaces of solvers.
    """

    n: int
    grid_shape: tuple[int, int] | None
    lambda_max: float
    near_kernel: FloatArray | None = None
    _entries: Tensor

    def __init__(self, entries: Tensor, grid_shape: tuple[int, int] | None) -> None:
        self._entries = entries
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self.grid_shape = grid_shape

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.n, self.n

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the kept entries; signals of any other floating dtype are welcome."""
        return self._entries.dtype

    @property
    def device(self) -> torch.device:
        """The device of the kept entries; signals on any other are welcome."""
        return self._entries.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return this Laplacian with its entries kept elsewhere, or in float32 to halve their memory for good."""
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"a Laplacian is kept in float32 or float64, got {dtype}")
        moved = copy.copy(self)
        moved._entries = self._entries.to(device=device, dtype=dtype)
        moved._copies = {}
        return moved

    def matvec(self, x: Tensor) -> Tensor:
        """Return L x in the shape, dtype and device of x; differentiable in x, twice too.

        Raises ValueError where x is not a signal on this graph, TypeError where it is not real and floating.
        """
        return from_planes(self_adjoint(self.planes(x), self.combine), x)

    def quadratic(self, x: Tensor) -> Tensor:
        """Return Tr(x^T L x) >= 0: a scalar for (n,) and (n, c), one value per sample, (B,), for (B, C, H, W)."""
        product = x * self.matvec(x)
        return product.sum(dim=(1, 2, 3)) if x.ndim == 4 else product.sum()

    def planes(self, x: Tensor) -> Tensor:
        """Return the signal x as contiguous planes (m, n), checked against this graph."""
        if x.ndim == 4 and self.grid_shape is None:
            raise ValueError(
                f"this graph of {self.n} nodes has no image grid, got a signal {tuple(x.shape)}: pass (n, c)"
            )
        return to_planes(x, self.n, self.grid_shape)

    def combine(
        self,
        x: Tensor,
        a: float = 1.0,
        b: float = 0.0,
        z: Tensor | None = None,
        c: float = 0.0,
        v: Tensor | None = None,
        d: float = 0.0,
        *,
        out: Tensor | None = None,
    ) -> Tensor:
        """Return a L x + b x + c z + d v for contiguous planes (m, n), outside autograd: one step of a recurrence.

        ``out`` takes the result; it may be z and must not be x or v.
        """
        with torch.no_grad():
            result = a * self._product(x) + b * x
            result = result if z is None else result.add_(z, alpha=c)
            result = result if v is None else result.add_(v, alpha=d)
            return result if out is None else out.copy_(result)

    def _product(self, x: Tensor) -> Tensor:
        """Return L x for contiguous planes (m, n), by torch alone."""
        raise NotImplementedError

    def absolute_sums(self) -> Tensor:
        """Return sum_j |L_ij| for each i, (n,), like :meth:`diagonal`; L <= diag of it, and its maximum bounds L."""
        raise NotImplementedError

    def diagonal(self) -> Tensor:
        """Return the diagonal of L, (n,), in the dtype and on the device of the kept entries."""
        raise NotImplementedError

    def to_scipy(self) -> sparse.csr_array:
        """Return L as a float64 CSR array."""
        raise NotImplementedError

    def to_torch(self) -> Tensor:
        """Return L as a torch sparse CSR tensor, in the dtype and on the device of the kept entries."""
        matrix = self.to_scipy()
        return torch_csr(matrix.indptr, matrix.indices, torch.from_numpy(matrix.data).to(self.device, self.dtype))

    def to_pygsp(self) -> Any:
        """Return the graph as a pygsp.graphs.Graph, whose L is this one; nodes of an image get its coordinates."""
        from pygsp.graphs import Graph

        if self.grid_shape is None:
            return Graph(self._adjacency())
        y, x = np.divmod(np.arange(self.n), self.grid_shape[1])
        return Graph(self._adjacency(), coords=np.stack([x, -y], axis=1))

    def to_networkx(self) -> networkx.Graph[int]:
        """Return the graph as a networkx.Graph of nodes 0 to n - 1 with the edge attribute "weight"."""
        import networkx

        graph: networkx.Graph[int] = networkx.from_scipy_sparse_array(self._adjacency())
        return graph

    def _adjacency(self) -> sparse.csr_array:
        """Return W of L = D - W; ValueError where the rows of L do not sum to zero, for then it has none."""
        matrix = self.to_scipy()
        if self.n and np.abs(matrix.sum(axis=1)).max() > 1e-6 * self.lambda_max:
            raise ValueError(
                "the rows of this Laplacian do not sum to zero: it is not D - W of a graph, use to_scipy()"
            )
        adjacency = sparse.csr_array(sparse.diags_array(matrix.diagonal()) - matrix)
        adjacency.eliminate_zeros()
        return adjacency

    def _matrix_like(self, x: Tensor) -> Tensor:
        """Return L, as it is applied, in the dtype and on the device of x."""
        key = (x.device, x.dtype)
        if key not in self._copies:
            self._copies[key] = self._prepared(self._entries.to(x))
        return self._copies[key]

    def _prepared(self, entries: Tensor) -> Tensor:
        return entries

    def __getstate__(self) -> dict[str, Any]:
        """Leave the copies out of pickles and deep copies."""
        return {**self.__dict__, "_copies": {}}

    def __repr__(self) -> str:
        grid = f", grid_shape={self.grid_shape}" if self.grid_shape else ""
        return f"{type(self).__name__}(n={self.n}{grid}, lambda_max={self.lambda_max:.4g})"


class StencilLaplacian(Laplacian):
    """L with constants in its kernel, stored by its upper diagonals: (L x)_i = sum_j L_ij (x_j - x_i).

    ``shifts`` (s,) are positive, ``weights`` (s, n) has weights[q, i] = L[i, i + shifts[q]] in float64, zero where
    there is no such node. ``bound`` is a further proven upper bound of the spectrum; Gershgorin's circles give the
    other. Differences instead of a stored main diagonal keep L 1 = 0 exact in every precision.
    """

    def __init__(
        self, shifts: IntArray, weights: FloatArray, grid_shape: tuple[int, int], bound: float = np.inf
    ) -> None:
        # On images narrower than the stencil two offsets may meet in one flat shift, at different pixels.
        distinct, place = np.unique(shifts, return_inverse=True)
        if len(distinct) < len(shifts):
            merged = np.zeros((len(distinct), weights.shape[1]))
            np.add.at(merged, place, weights)
            shifts, weights = distinct, merged
        self._shifts = shifts.astype(np.int64)
        super().__init__(torch.from_numpy(weights), grid_shape)
        self.n = weights.shape[1]
        self.lambda_max = min(bound, float(self.absolute_sums().max()))

    def combine(
        self,
        x: Tensor,
        a: float = 1.0,
        b: float = 0.0,
        z: Tensor | None = None,
        c: float = 0.0,
        v: Tensor | None = None,
        d: float = 0.0,
        *,
        out: Tensor | None = None,
    ) -> Tensor:
        """Return a L x + b x + c z + d v in one pass over memory on the CPU, by shifted slices elsewhere."""
        if x.device.type != "cpu":
            return super().combine(x, a, b, z, c, v, d, out=out)
        from graphs._kernels import BLOCK, combine_diagonals

        out = torch.empty_like(x) if out is None else out
        planes, other, source = ((x if s is None else s).detach().numpy() for s in (x, z, v))
        # Scalars in the precision of the signal: float64 ones would widen the arithmetic of the whole last loop.
        a, b, c, d = (planes.dtype.type(s) for s in (a, b, c if z is not None else 0.0, d if v is not None else 0.0))
        weights = self._matrix_like(x).numpy()
        blocks = -(-self.n // BLOCK)
        combine_diagonals(blocks, self._shifts, weights, planes, a, b, other, c, source, d, out.numpy())
        return out

    def _product(self, x: Tensor) -> Tensor:
        product = torch.zeros_like(x)
        for shift, weight in zip(self._shifts.tolist(), self._matrix_like(x), strict=True):
            last = max(self.n - shift, 0)
            flow = weight[:last] * (x[:, shift:] - x[:, :last])
            product[:, :last] += flow
            product[:, shift:] -= flow
        return product

    def absolute_sums(self) -> Tensor:
        """Return sum_j |L_ij| for each i, (n,)."""
        return _row_sums(self._shifts, self._entries.abs()) + self.diagonal().abs()

    def diagonal(self) -> Tensor:
        """Return the diagonal of L, (n,): minus the sum of the others in each row."""
        return -_row_sums(self._shifts, self._entries)

    def to_scipy(self) -> sparse.csr_array:
        """Return L as a float64 CSR array, without its structural zeros."""
        weights = self._entries.cpu().double().numpy()
        upper = sparse.diags_array(
            [w[: self.n - s] for w, s in zip(weights, self._shifts, strict=True)],
            offsets=self._shifts.tolist(),
            shape=self.shape,
        )
        matrix = sparse.csr_array(upper + upper.T + sparse.diags_array(self.diagonal().cpu().double().numpy()))
        matrix.eliminate_zeros()
        return matrix


class SparseLaplacian(Laplacian):
    """L as a general sparse symmetric matrix, applied by torch's CSR product; ``matrix`` is copied to float64."""

    def __init__(self, matrix: sparse.csr_array, grid_shape: tuple[int, int] | None = None) -> None:
        matrix = matrix.astype(np.float64, copy=True)
        matrix.sum_duplicates()
        super().__init__(torch.from_numpy(matrix.data), grid_shape)
        self._indptr, self._indices = matrix.indptr, matrix.indices
        self.n = matrix.shape[0]
        self.lambda_max = float(self.absolute_sums().max())

    def _prepared(self, entries: Tensor) -> Tensor:
        return torch_csr(self._indptr, self._indices, entries)

    def _product(self, x: Tensor) -> Tensor:
        return (self._matrix_like(x) @ x.T).T.contiguous()

    def absolute_sums(self) -> Tensor:
        """Return sum_j |L_ij| for each i, (n,)."""
        return torch.from_numpy(abs(self.to_scipy()).sum(axis=1)).to(self.device, self.dtype)

    def diagonal(self) -> Tensor:
        """Return the diagonal of L, (n,)."""
        return torch.from_numpy(self.to_scipy().diagonal()).to(self.device, self.dtype)

    def to_scipy(self) -> sparse.csr_array:
        """Return L as a float64 CSR array of its own."""
        data = self._entries.cpu().double().numpy()
        return sparse.csr_array((data, self._indices, self._indptr), shape=self.shape, copy=True)


def torch_csr(indptr: IntArray, indices: IntArray, entries: Tensor) -> Tensor:
    """Return a square torch sparse CSR tensor on the device of its entries."""
    n = len(indptr) - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        return torch.sparse_csr_tensor(
            torch.from_numpy(indptr), torch.from_numpy(indices), entries, (n, n), device=entries.device
        )


def _row_sums(shifts: IntArray, weights: Tensor) -> Tensor:
    """Return the sum of the off-diagonal entries of each row, (n,), from the upper diagonals."""
    n = weights.shape[1]
    sums = weights.sum(dim=0)
    for shift, weight in zip(shifts.tolist(), weights, strict=True):
        sums[shift:] += weight[: max(n - shift, 0)]
    return sums
