"""Vectors with few entries that are not 0."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll.sets._base import NonConvexProjector


class Sparse(NonConvexProjector):
    """Projection onto {x : at most s entries are not 0}: the s entries of largest modulus are kept. Not convex.

    The hard threshold of iterative hard thresholding. Of entries of equal modulus, as many are kept as there is room
    for. Shapes: vectors along the last dimension, the others are batch. Real or complex. Cost: O(n log s).

    Source: T. Blumensath and M. Davies, "Iterative hard thresholding for compressed sensing", 2009.
    """

    takes_complex = True

    def __init__(self, s: int) -> None:
        super().__init__()
        if s < 0:
            raise ValueError(f"s must be at least 0, got {s}")
        self.s = s

    def project(self, v: Tensor) -> Tensor:
        """Return v with all but the s largest entries set to 0."""
        if v.shape[-1] <= self.s:
            return v
        size = v.detach().abs()
        kept = torch.zeros_like(size).scatter(-1, size.topk(self.s, dim=-1).indices, 1)
        return torch.where(kept > 0, v, 0)
