"""Sets of matrices that are not convex: orthonormal columns, low rank."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll.sets._base import NonConvexProjector
from unroll.sets._spectral import Recompose


class Stiefel(NonConvexProjector):
    """Projection onto the matrices with orthonormal columns, X^H X = I: U V^H of V = U Sigma V^H. Not convex.

    The polar factor; where V lacks full rank, several are nearest. Wide matrices get orthonormal rows. Shapes: matrices
    in the last two dimensions, the others are batch. Real or complex. Cost: a singular value decomposition.

    The derivative is unbounded near matrices that lack full rank; second derivatives are refused.

    Source: N. Higham, "Computing the polar decomposition, with applications", 1986.
    """

    point_dims = 2
    takes_complex = True

    def project(self, v: Tensor) -> Tensor:
        """Return the polar factor."""
        u, s, vh = torch.linalg.svd(v.detach(), full_matrices=False)
        x: Tensor = Recompose.apply(v, u, s, vh, torch.ones_like(s), torch.zeros_like(s))
        return x


class LowRank(NonConvexProjector):
    """Projection onto {X : rank X <= rank}: the largest singular values are kept. Not convex.

    Shapes: matrices in the last two dimensions, the others are batch. Real or complex. Cost: a singular value
    decomposition. The derivative is unbounded near matrices where the next singular value is as large; second
    derivatives are refused.

    Source: C. Eckart and G. Young, "The approximation of one matrix by another of lower rank", 1936.
    """

    point_dims = 2
    takes_complex = True

    def __init__(self, rank: int) -> None:
        super().__init__()
        if rank < 0:
            raise ValueError(f"the rank must be at least 0, got {rank}")
        self.rank = rank

    def project(self, v: Tensor) -> Tensor:
        """Return the truncated singular value decomposition."""
        u, s, vh = torch.linalg.svd(v.detach(), full_matrices=False)
        kept = (torch.arange(s.shape[-1], device=s.device) < self.rank).to(s.dtype).expand_as(s)
        x: Tensor = Recompose.apply(v, u, s, vh, s * kept, kept)
        return x
