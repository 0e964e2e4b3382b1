"""Cones: of second order, and of positive semi-definite matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll.sets._base import SetProjector, norm, unit
from unroll.sets._spectral import Recompose


class SecondOrderCone(SetProjector):
    """Projection onto {(x, t) : ||x||_2 <= t}, t the last entry of the vector.

    (x, t) itself if ||x|| <= t, 0 if ||x|| <= -t, else (||x|| + t) / 2 (x / ||x||, 1).

    Shapes: vectors of at least 2 entries along the last dimension, the others are batch. Real. Cost: O(n).

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 6.3.2.
    """

    def project(self, v: Tensor) -> Tensor:
        """Return the nearest point of the cone."""
        if v.shape[-1] < 2:
            raise ValueError(f"a second-order cone needs vectors (x, t) of 2 entries, got the shape {tuple(v.shape)}")
        x, height = v[..., :-1], v[..., -1:]
        size = norm(x)
        level = ((size + height) / 2).relu()
        between = torch.cat([level * unit(x, size), level], dim=-1)
        return torch.where(size <= height, v, between)


class PSDCone(SetProjector):
    """Projection onto the positive semi-definite matrices: Q max(Lambda, 0) Q^H of (V + V^H) / 2 = Q Lambda Q^H.

    Shapes: square matrices in the last two dimensions, the others are batch. Real or complex; the nearest positive
    semi-definite matrix is that of the Hermitian part. Cost: an eigendecomposition, O(n^3).

    The derivative is that of Daleckii and Krein, finite where eigenvalues are equal; second derivatives are refused.

    Source: N. Higham, "Computing a nearest symmetric positive semidefinite matrix", 1988.
    """

    point_dims = 2
    takes_complex = True

    def project(self, v: Tensor) -> Tensor:
        """Return the Hermitian part without its negative eigenvalues."""
        if v.shape[-1] != v.shape[-2]:
            raise ValueError(f"PSDCone takes square matrices, got the shape {tuple(v.shape)}")
        v = (v + v.mH) / 2
        values, q = torch.linalg.eigh(v.detach())
        x: Tensor = Recompose.apply(v, q, values, q.mH, values.relu(), (values > 0).to(values.dtype))
        return (x + x.mH) / 2
