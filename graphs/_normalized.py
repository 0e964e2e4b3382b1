"""Symmetric normalised Laplacians, around any other."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphs._bounds import perron_bound
from graphs._laplacian import Laplacian
from graphs._signals import self_adjoint
from graphs._sparse import EdgeLaplacian


class NormalizedLaplacian(Laplacian):
    """S L S with S = D^-1/2, D = diag(L), or 0 where D_ii = 0: then that row of L is zero, and stays so.

    Applied as written, by the product of ``base``; stores one number per node. ``near_kernel`` begins with D^1/2 1,
    for it is no longer the constant that L maps to zero. ``lambda_max`` is the least of the bound of the base over min
    D and of Collatz and Wielandt's, which is 2 at most where no weight is negative; for a matting Laplacian it is above
    the largest eigenvalue by 20 to 60 %, and :meth:`tightened` is for that.
    """

    _form = "normalized"

    def __init__(self, base: Laplacian) -> None:
        degrees = base.diagonal().double().clamp_min(0)
        joined = degrees > 0
        scale = torch.where(joined, degrees, 1).rsqrt() * joined
        super().__init__(scale.to(base.dtype), base.spatial_shape)
        self.base, self.n = base, base.n
        root = torch.where(joined, degrees, 1).sqrt()
        bound = base.lambda_max / float(degrees[joined].min()) if bool(joined.any()) else 0.0
        self.lambda_max = min(bound, perron_bound(self.absolute_product, root.to(base.dtype)))
        roots = root.cpu().numpy()[:, None]
        beside = np.zeros((self.n, 0)) if base.near_kernel is None else base.near_kernel
        self.near_kernel = np.concatenate([roots, roots * beside], axis=1)

    def normalized(self) -> Laplacian:
        """Return itself."""
        return self

    def combinatorial(self) -> Laplacian:
        """Return L."""
        return self.base

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return this Laplacian with its entries and those of its base kept elsewhere."""
        moved = super().to(device, dtype)
        moved.base = self.base.to(device, dtype)
        return moved

    def _product(self, x: Tensor) -> Tensor:
        scale = self._matrix_like(x)
        return self.base.combine(x * scale).mul_(scale)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients reach the weights of the base here and now."""
        return self.base.requires_grad

    def _differentiable(self, planes: Tensor) -> Tensor:
        if not self.requires_grad:
            return super()._differentiable(planes)
        scale = self._live_scale().to(planes)
        return scale * self.base._differentiable(scale * planes)

    def _variation(self, planes: Tensor) -> Tensor:
        if not self.requires_grad:
            return super()._variation(planes)
        # S L S - S_0 L_0 S_0 in three terms, each of which is exactly zero, as the difference of two products is not.
        scale = self._live_scale().to(planes)
        kept = scale.detach()
        change = scale - kept
        inside = self.base._variation(scale * planes) + self_adjoint(change * planes, self.base.combine)
        return change * self.base._differentiable(scale * planes) + kept * inside

    def _live_scale(self) -> Tensor:
        """Return D^-1/2, differentiable in the weights."""
        assert isinstance(self.base, EdgeLaplacian)  # no other requires a gradient
        degrees = self.base._differentiable_diagonal()
        return torch.where(degrees > 0, degrees, 1).rsqrt() * (degrees > 0)

    def absolute_product(self, u: Tensor) -> Tensor:
        """Return |L| u, (n,)."""
        return self._entries * self.base.absolute_product(self._entries * u)

    def diagonal(self) -> Tensor:
        """Return the diagonal of L, (n,): ones, and zeros at isolated nodes."""
        return (self._entries > 0).to(self.dtype)

    def to_scipy(self) -> sparse.csr_array:
        """Return L as a float64 CSR array."""
        matrix, scale = self.base.to_scipy().tocoo(), self._entries.cpu().double().numpy()
        # The two factors first: their product is the same for (i, j) and (j, i), so symmetry is exact.
        matrix.data *= scale[matrix.row] * scale[matrix.col]
        return sparse.csr_array(matrix)

    def _adjacency(self) -> sparse.csr_array:
        return self.base._adjacency()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base!r}, lambda_max={self.lambda_max:.4g})"
