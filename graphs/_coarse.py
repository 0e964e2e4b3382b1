"""The coarse half of a two-level preconditioner: what is affine in the image on small blocks of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import linalg
from torch import Tensor

from graphs._laplacian import FloatArray, Laplacian


class CoarseSpace:
    """Galerkin correction r -> P (I + s P^T L P)^-1 P^T r, P orthonormal, for solving with I + s L on a pixel grid.

    The columns of P are, on each block of side x side pixels, an orthonormal basis of the constant and the near kernel
    of L (for a matting Laplacian the colours, x^T L x being small for what is affine in them). Factors are kept for the
    last s.

    Source: P. Vanek, J. Mandel, M. Brezina, "Algebraic multigrid by smoothed aggregation", 1996, without the smoothing.
    """

    def __init__(self, laplacian: Laplacian, *, side: int = 5) -> None:
        if laplacian.grid_shape is None:
            raise ValueError("a coarse space of pixel blocks needs a graph with an image grid")
        features = laplacian.near_kernel
        self.prolongation = block_basis(
            np.zeros((laplacian.n, 0)) if features is None else features, laplacian.grid_shape, side
        )
        coarse = sparse.csc_array(self.prolongation.T @ laplacian.to_scipy() @ self.prolongation)
        self._shifted = Shifted(sparse.csc_array(sparse.eye_array(coarse.shape[0])), coarse)

    def correct(self, residual: Tensor, strength: float) -> Tensor:
        """Return P (I + strength P^T L P)^-1 P^T residual for float64 planes (m, n); computed on the CPU."""
        restricted = self.prolongation.T @ residual.cpu().numpy().T
        corrected = self.prolongation @ self._shifted.solve(restricted, strength)
        return torch.from_numpy(np.ascontiguousarray(corrected.T)).to(residual.device)


class Shifted:
    """Solves (M + s K) x = b for sparse symmetric positive definite M + s K; factors are kept for the last s."""

    def __init__(self, mass: sparse.csc_array, stiffness: sparse.csc_array) -> None:
        self._mass, self._stiffness = mass, stiffness
        self._factor: tuple[float, Any] | None = None

    def solve(self, b: FloatArray, strength: float) -> FloatArray:
        """Return (M + strength K)^-1 b for b (N, m)."""
        if self._factor is None or self._factor[0] != strength:
            self._factor = strength, symmetric_factor(sparse.csc_array(self._mass + strength * self._stiffness))
        solution: FloatArray = self._factor[1].solve(np.ascontiguousarray(b))
        return solution

    def __getstate__(self) -> dict[str, Any]:
        """Leave the factors, which cannot be copied, out of pickles and deep copies."""
        return {**self.__dict__, "_factor": None}


def symmetric_factor(matrix: sparse.csc_array) -> Any:
    """Return the sparse LU factors of a symmetric positive definite matrix, in a fill-reducing symmetric ordering."""
    return linalg.splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True, "Equil": False}
    )


def block_basis(features: FloatArray, grid_shape: tuple[int, int], side: int) -> sparse.csr_array:
    """Return (n, m) with orthonormal columns: a basis of 1 and the features (n, f) on each block of pixels."""
    n, f = features.shape
    y, x = np.divmod(np.arange(n), grid_shape[1])
    block = y // side * -(-grid_shape[1] // side) + x // side
    members = sparse.csr_array((np.ones(n), (block, np.arange(n))))
    sizes = members.sum(axis=1)
    centred = features - (members @ features / sizes[:, None])[block]
    covariances = (members @ (centred[:, :, None] * centred[:, None, :]).reshape(n, f * f)).reshape(len(sizes), f, f)
    powers, axes = np.linalg.eigh(covariances)
    # Directions in which a block hardly varies are noise of the features, not signals near the kernel.
    kept = powers > 1e-6 * sizes[:, None]
    scaled = axes * np.where(kept, 1 / np.sqrt(np.where(kept, powers, 1.0)), 0.0)[:, None, :]
    values = np.concatenate(
        [1 / np.sqrt(sizes[block])[:, None], np.einsum("nf,nfg->ng", centred, scaled[block])], axis=1
    )
    kept = np.concatenate([np.ones((len(sizes), 1), dtype=bool), kept], axis=1)
    columns = (np.cumsum(kept) - 1).reshape(kept.shape)
    used = kept[block]
    rows = np.broadcast_to(np.arange(n)[:, None], used.shape)
    return sparse.csr_array((values[used], (rows[used], columns[block][used])), shape=(n, int(kept.sum())))
