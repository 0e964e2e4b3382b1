"""Laplacians of general sparse graphs, and those whose weights are differentiated."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphs._bounds import perron_bound
from graphs._laplacian import Laplacian, torch_csr


class SparseLaplacian(Laplacian):
    """L as a general sparse symmetric matrix, applied by torch's CSR product; ``matrix`` is copied to float64."""

    def __init__(self, matrix: sparse.csr_array, spatial_shape: tuple[int, ...] | None = None) -> None:
        matrix = matrix.astype(np.float64, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        super().__init__(torch.from_numpy(matrix.data), spatial_shape)
        self._indptr, self._indices = matrix.indptr, matrix.indices
        self.n = matrix.shape[0]
        moduli = abs(matrix)
        self.lambda_max = perron_bound(
            lambda u: torch.from_numpy(moduli @ u.numpy()), torch.ones(self.n, dtype=torch.float64)
        )

    def _prepared(self, x: Tensor) -> Tensor:
        return torch_csr(self._indptr, self._indices, self._entries.to(x))

    def _product(self, x: Tensor) -> Tensor:
        return (self._matrix_like(x) @ x.T).T.contiguous()

    def absolute_product(self, u: Tensor) -> Tensor:
        """Return |L| u, (n,)."""
        return torch.from_numpy(abs(self.to_scipy()) @ u.cpu().double().numpy()).to(self.device, self.dtype)

    def diagonal(self) -> Tensor:
        """Return the diagonal of L, (n,)."""
        return torch.from_numpy(self.to_scipy().diagonal()).to(self.device, self.dtype)

    def to_scipy(self) -> sparse.csr_array:
        """Return L as a float64 CSR array of its own."""
        data = self._entries.cpu().double().numpy()
        return sparse.csr_array((data, self._indices, self._indptr), shape=self.shape, copy=True)


class EdgeLaplacian(SparseLaplacian):
    """L = sum over edges (i, j) of w_ij (e_i - e_j)(e_i - e_j)^T, whose products are differentiable in the weights.

    ``edges`` (2, m) are checked node numbers, ``weights`` (m,) their weights. The matrix that eigensolvers see, as
    constants, is that of the weights when it was made; so are the products, even where an optimiser has since moved the
    weights. Pickles and deep copies keep the values alone.
    """

    def __init__(self, edges: Tensor, weights: Tensor, n: int, spatial_shape: tuple[int, ...] | None = None) -> None:
        i, j = edges.cpu().numpy()
        values = weights.detach().cpu().double().numpy()
        rows, columns = np.concatenate([i, j, i, j]), np.concatenate([i, j, j, i])
        matrix = sparse.csr_array((np.concatenate([values, values, -values, -values]), (rows, columns)), shape=(n, n))
        super().__init__(matrix, spatial_shape)
        self._edges, self._weights = edges, weights.double().clone()  # not the memory that an optimiser moves

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return this Laplacian with its entries kept elsewhere, gradients of the weights still reaching them."""
        moved = super().to(device, dtype)
        moved._edges, moved._weights = self._edges.to(device), self._weights.to(device=device, dtype=dtype)
        return moved

    @property
    def requires_grad(self) -> bool:
        """Whether gradients reach the weights here and now."""
        return self._weights.requires_grad and torch.is_grad_enabled()

    def _differentiable(self, planes: Tensor) -> Tensor:
        return self._product_of(self._weights, planes) if self.requires_grad else super()._differentiable(planes)

    def _variation(self, planes: Tensor) -> Tensor:
        return self._product_of(self._weights - self._weights.detach(), planes)

    def _product_of(self, weights: Tensor, planes: Tensor) -> Tensor:
        """Return L(w) x for planes (m, n), by the edges."""
        i, j = self._edges.to(planes.device)
        flow = weights.to(planes) * (planes[:, i] - planes[:, j])
        return torch.zeros_like(planes).index_add(1, i, flow).index_add(1, j, -flow)

    def _differentiable_diagonal(self) -> Tensor:
        """Return the diagonal of L, (n,), differentiable in the weights."""
        moved = self._weights * (self._edges[0] != self._edges[1])
        zeros = torch.zeros(self.n, dtype=moved.dtype, device=moved.device)
        return zeros.index_add(0, self._edges[0], moved).index_add(0, self._edges[1], moved)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the copies and the history of the weights out of pickles and deep copies."""
        return {**super().__getstate__(), "_weights": self._weights.detach()}
