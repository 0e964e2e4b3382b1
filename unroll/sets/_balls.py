"""Balls and the sphere of the Euclidean and the maximum norm."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll._proximal import like
from unroll.sets._base import NonConvexProjector, WithRadius, norm, shortened, unit


class L2Ball(WithRadius):
    """Projection onto {x : ||x||_2 <= radius}: v min(1, radius / ||v||).

    Shapes: vectors along the last dimension, the others are batch; ``radius`` >= 0 is a number, or a tensor that
    broadcasts against (..., 1). Real or complex. Cost: O(n).
    """

    def project(self, v: Tensor) -> Tensor:
        """Return v min(1, radius / ||v||); what is inside stays as it is, bit by bit."""
        size = norm(v)
        return shortened(v, size, like(self.radius, size))


class L2Sphere(WithRadius, NonConvexProjector):
    """Projection onto {x : ||x||_2 = radius}: radius v / ||v||, and radius e_1 for v = 0. Not convex.

    Shapes: vectors along the last dimension, the others are batch; ``radius`` >= 0 is a number, or a tensor that
    broadcasts against (..., 1). Real or complex. Cost: O(n).
    """

    def project(self, v: Tensor) -> Tensor:
        """Return radius v / ||v||."""
        size = norm(v)
        first = (torch.arange(v.shape[-1], device=v.device) == 0).to(v.dtype)
        return like(self.radius, size) * torch.where(size > 0, unit(v, size), first)


class LinfBall(WithRadius):
    """Projection onto {x : max |x_i| <= radius}: entries are cut off at the radius, complex ones keep their phase.

    Shapes: any; ``radius`` >= 0 is a number, or a tensor that broadcasts against v. Cost: O(n).
    """

    point_dims = 0

    def project(self, v: Tensor) -> Tensor:
        """Return v min(1, radius / |v|), entry by entry."""
        if not v.is_complex():
            radius = like(self.radius, v)
            return v.clamp(min=-radius, max=radius)  # type: ignore[arg-type]
        size = v.abs()
        return shortened(v, size, like(self.radius, size))
