"""Graph Laplacians as operators: what they do. How they are made is in _matting.py, _grid.py, _knn.py, _convert.py."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

from graphs._bounds import lanczos_bound
from graphs._memory import require_memory
from graphs._signals import from_planes, self_adjoint, to_planes

if TYPE_CHECKING:
    import networkx

IntArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


class Laplacian:
    """A symmetric positive semi-definite matrix L (n, n) on the nodes of a graph.

    Signals are (n,), (n, c) or, where the nodes are the pixels of an image, (B, C, H, W), with n = H W in row-major
    order, or those of a video, (B, C, D, H, W). The entries are built and kept in float64 on the CPU (see :meth:`to`),
    and are applied in the dtype of the signal (float32 or float64; half precision is computed in float32) and on its
    device: a copy is made for each such pair on first use, and kept. A Laplacian is never changed.

    Attributes: ``n``, ``shape`` = (n, n), ``spatial_shape`` = (W,), (H, W) or (D, H, W) where the nodes are a grid,
    else None, ``grid_shape`` = (H, W) for images alone, ``lambda_max`` >= the largest eigenvalue, proven (how close,
    the makers say; see :meth:`tightened`), ``near_kernel`` (n, f) float64 or None: signals beside the constant that L
    nearly maps to zero locally (the channels of the image, for a matting Laplacian), for the coarse spaces of solvers.
    """

    n: int
    spatial_shape: tuple[int, ...] | None
    lambda_max: float
    near_kernel: FloatArray | None = None
    _entries: Tensor
    _form = "combinatorial"

    def __init__(self, entries: Tensor, spatial_shape: tuple[int, ...] | None) -> None:
        self._entries = entries
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self.spatial_shape = spatial_shape

    @property
    def grid_shape(self) -> tuple[int, int] | None:
        """(H, W) where the nodes are the pixels of an image, else None."""
        shape = self.spatial_shape
        return (shape[0], shape[1]) if shape is not None and len(shape) == 2 else None

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

    @property
    def requires_grad(self) -> bool:
        """Whether gradients reach weights here and now: those of :func:`graphs.from_edges`, where they require one."""
        return False

    def matvec(self, x: Tensor) -> Tensor:
        """Return L x in the shape, dtype and device of x; differentiable in x, twice too.

        In the weights as well for :func:`graphs.from_edges`, and :func:`graphs.from_adjacency` of a tensor that
        requires a gradient; other kinds are constants.

        Raises ValueError where x is not a signal on this graph, TypeError where it is not real and floating.
        """
        return from_planes(self._differentiable(self.planes(x)), x)

    def quadratic(self, x: Tensor) -> Tensor:
        """Return Tr(x^T L x) >= 0: a scalar for (n,) and (n, c), else one value per sample, (B,)."""
        product = x * self.matvec(x)
        return product.flatten(1).sum(dim=1) if x.ndim > 2 else product.sum()

    def _differentiable(self, planes: Tensor) -> Tensor:
        """Return L x for planes (m, n), under autograd."""
        return self_adjoint(planes, self.combine)

    def _variation(self, planes: Tensor) -> Tensor:
        """Return (L(w) - L(w_0)) x for planes (m, n) at w = w_0: zeros, with the derivatives in w of L(w) x."""
        return torch.zeros_like(planes)

    def normalized(self) -> Laplacian:
        """Return D^-1/2 L D^-1/2 = I - D^-1/2 W D^-1/2, D = diag(L), with D^1/2 1 in its kernel if 1 is in that of L.

        An operator around this one, with a bound of its own; isolated nodes keep their rows of zeros.
        :meth:`combinatorial` leads back.
        """
        from graphs._normalized import NormalizedLaplacian

        return NormalizedLaplacian(self)

    def combinatorial(self) -> Laplacian:
        """Return the Laplacian that this is the :meth:`normalized` form of; itself where it is none."""
        return self

    def tightened(self, rtol: float = 0.02, *, failure: float = 1e-9, seed: int = 0) -> Self:
        """Return this Laplacian with ``lambda_max`` at most 1 / (1 - rtol) times the largest eigenvalue.

        Lanczos from a random start (seeded by ``seed``) gives a Ritz value theta. That theta <= the largest eigenvalue
        always holds, so the closeness is certain. That theta / (1 - rtol) bounds it from above holds, in exact
        arithmetic, with probability at least 1 - ``failure`` over the start; the bound is the lesser of this and the
        one that was proven without chance. Cost: log(1.65 sqrt(n) / failure) / (2 sqrt(rtol)) float64 matvecs (100 for
        a million nodes), three vectors. Raises ValueError.

        Source: J. Kuczynski, H. Wozniakowski, "Estimating the largest eigenvalue by the power and Lanczos algorithms
        with a random start", 1992, theorem 4.2.
        """

        def step(x: Tensor, z: Tensor, c: float) -> Tensor:
            return self.combine(x, 1.0, 0.0, z, c)

        start = torch.randn(1, self.n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        tighter = copy.copy(self)
        bound = lanczos_bound(step, start.to(self.device), rtol, failure, self.lambda_max)
        tighter.lambda_max = min(self.lambda_max, bound)
        return tighter

    def components(self) -> int:
        """Return the number of connected components of the graph: nodes joined where L_ij differs from zero."""
        found, _ = csgraph.connected_components(self.to_scipy(), directed=False)
        return int(found)

    def planes(self, x: Tensor) -> Tensor:
        """Return the signal x as contiguous planes (m, n), checked against this graph."""
        if x.ndim > 3 and self.spatial_shape is None:
            raise ValueError(
                f"this graph of {self.n} nodes has no image grid, got a signal {tuple(x.shape)}: pass (n, c)"
            )
        return to_planes(x, self.n, self.spatial_shape)

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
        return self.absolute_product(torch.ones(self.n, dtype=self.dtype, device=self.device))

    def absolute_product(self, u: Tensor) -> Tensor:
        """Return |L| u, (n,), the entries' moduli times u, in the dtype and on the device of the kept entries."""
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

    def to_dense(self) -> Tensor:
        """Return L as a dense tensor (n, n), like :meth:`to_torch`; MemoryError beforehand where it cannot fit."""
        require_memory(8 * self.n**2, f"a dense matrix of {self.n} x {self.n}", "keep it sparse, by to_torch()")
        return torch.from_numpy(self.to_scipy().toarray()).to(self.device, self.dtype)

    def to_pygsp(self) -> Any:
        """Return the graph as a pygsp.graphs.Graph, whose L is this one; nodes of a grid get its coordinates.

        Raises ValueError where L is not D - W of a graph.
        """
        from pygsp.graphs import Graph

        if self.spatial_shape is None:
            return Graph(self._adjacency(), lap_type=self._form)
        indices = np.indices(self.spatial_shape).reshape(len(self.spatial_shape), self.n)
        coordinates = (indices[::-1] * np.array([1, -1, 1])[: len(indices), None]).T  # x to the right, y upwards
        return Graph(
            self._adjacency(), lap_type=self._form, coords=coordinates.squeeze(1) if len(indices) == 1 else coordinates
        )

    def to_networkx(self) -> networkx.Graph[int]:
        """Return the graph as a networkx.Graph of nodes 0 to n - 1 with the edge attribute "weight".

        It does not carry the form: ``networkx.normalized_laplacian_matrix`` of it is :meth:`normalized`. Raises
        ValueError where L is not D - W of a graph.
        """
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
            self._copies[key] = self._prepared(x)
        return self._copies[key]

    def _prepared(self, x: Tensor) -> Tensor:
        return self._entries.to(x)

    def __copy__(self) -> Self:
        """Share everything, the history of differentiable weights too, which pickles leave out."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Leave the copies out of pickles and deep copies."""
        return {**self.__dict__, "_copies": {}}

    def __repr__(self) -> str:
        grid = f", spatial_shape={self.spatial_shape}" if self.spatial_shape else ""
        return f"{type(self).__name__}(n={self.n}{grid}, lambda_max={self.lambda_max:.4g})"


class StencilLaplacian(Laplacian):
    """L with constants in its kernel, stored by its upper diagonals: (L x)_i = sum_j L_ij (x_j - x_i).

    ``shifts`` (s,) are positive, ``weights`` (s, n) has weights[q, i] = L[i, i + shifts[q]] in float64, zero where
    there is no such node. ``bound`` is a further proven upper bound of the spectrum; Gershgorin's circles give the
    other. Differences instead of a stored main diagonal keep L 1 = 0 exact in every precision.
    """

    def __init__(
        self, shifts: IntArray, weights: FloatArray, spatial_shape: tuple[int, ...], bound: float = np.inf
    ) -> None:
        # On images narrower than the stencil two offsets may meet in one flat shift, at different pixels.
        distinct, place = np.unique(shifts, return_inverse=True)
        if len(distinct) < len(shifts):
            merged = np.zeros((len(distinct), weights.shape[1]))
            np.add.at(merged, place, weights)
            shifts, weights = distinct, merged
        self._shifts = shifts.astype(np.int64)
        super().__init__(torch.from_numpy(weights), spatial_shape)
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

    def _prepared(self, x: Tensor) -> Tensor:
        if self._entries.dtype == x.dtype or self.n % 1024:
            return super()._prepared(x)
        # Rows a multiple of 4 KB apart share their places in the caches, which costs a tenth of the time.
        padded = x.new_zeros(len(self._entries), self.n + 1040)
        padded[:, : self.n] = self._entries
        return padded

    def _product(self, x: Tensor) -> Tensor:
        product = torch.zeros_like(x)
        for shift, weight in zip(self._shifts.tolist(), self._matrix_like(x), strict=True):
            last = max(self.n - shift, 0)
            flow = weight[:last] * (x[:, shift:] - x[:, :last])
            product[:, :last] += flow
            product[:, shift:] -= flow
        return product

    def absolute_product(self, u: Tensor) -> Tensor:
        """Return |L| u, (n,)."""
        product = self.diagonal().abs() * u
        for shift, weight in zip(self._shifts.tolist(), self._entries, strict=True):
            last = max(self.n - shift, 0)
            product[:last] += weight[:last].abs() * u[shift:]
            product[shift:] += weight[:last].abs() * u[:last]
        return product

    def diagonal(self) -> Tensor:
        """Return the diagonal of L, (n,): minus the sum of the others in each row."""
        diagonal = torch.zeros(self.n, dtype=self.dtype, device=self.device)
        for shift, weight in zip(self._shifts.tolist(), self._entries, strict=True):
            last = max(self.n - shift, 0)
            diagonal[:last] -= weight[:last]
            diagonal[shift:] -= weight[:last]
        return diagonal

    def to_scipy(self) -> sparse.csr_array:
        """Return L as a float64 CSR array, without its structural zeros."""
        stored = (2 * len(self._shifts) + 1) * self.n
        require_memory(32 * stored, f"a sparse matrix of {stored} entries", "use a smaller image, or matvec alone")
        weights = self._entries.cpu().double().numpy()
        half = self.diagonal().cpu().double().numpy() / 2
        upper = sparse.diags_array(
            [half, *(w[: self.n - s] for w, s in zip(weights, self._shifts, strict=True))],
            offsets=[0, *self._shifts.tolist()],
            shape=self.shape,
        )
        matrix = sparse.csr_array(upper + upper.T)
        matrix.eliminate_zeros()
        return matrix


def torch_csr(indptr: IntArray, indices: IntArray, entries: Tensor) -> Tensor:
    """Return a square torch sparse CSR tensor on the device of its entries."""
    n = len(indptr) - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        return torch.sparse_csr_tensor(
            torch.from_numpy(indptr), torch.from_numpy(indices), entries, (n, n), device=entries.device
        )
