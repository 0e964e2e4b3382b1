"""Balls and the sphere of the Euclidean and the maximum norm."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll._proximal import at_least_zero, hold, like
from unroll.sets._base import NonConvexProjector, SetProjector, norm, unit


class L2Ball(SetProjector):
    """Projection onto {x : ||x||_2 <= radius}: v min(1, radius / ||v||).

    Shapes: vectors along the last dimension, the others are batch; ``radius`` >= 0 is a number, or a tensor that
    broadcasts against (..., 1). Real or complex. Cost: O(n).
    """

    takes_complex = True
    radius: float | Tensor

    def __init__(self, radius: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(self, radius=at_least_zero("the radius", radius))

    def project(self, v: Tensor) -> Tensor:
        """Return v min(1, radius / ||v||); what is inside stays as it is, bit by bit."""
        size = norm(v)
        radius = like(self.radius, size)
        outside = size > radius
        return v * torch.where(outside, radius / torch.where(outside, size, 1), 1)


class L2Sphere(NonConvexProjector):
    """Projection onto {x : ||x||_2 = radius}: radius v / ||v||, and radius e_1 for v = 0. Not convex.

    Shapes: vectors along the last dimension, the others are batch; ``radius`` >= 0 is a number, or a tensor that
    broadcasts against (..., 1). Real or complex. Cost: O(n).
    """

    takes_complex = True
    radius: float | Tensor

    def __init__(self, radius: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(self, radius=at_least_zero("the radius", radius))

    def project(self, v: Tensor) -> Tensor:
        """Return radius v / ||v||."""
        size = norm(v)
        first = (torch.arange(v.shape[-1], device=v.device) == 0).to(v.dtype)
        return like(self.radius, size) * torch.where(size > 0, unit(v, size), first)


class LinfBall(SetProjector):
    """Projection onto {x : max |x_i| <= radius}: entries are cut off at the radius, complex ones keep their phase.

    Shapes: any; ``radius`` >= 0 is a number, or a tensor that broadcasts against v. Cost: O(n).
    """

    point_dims = 0
    takes_complex = True
    radius: float | Tensor

    def __init__(self, radius: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(self, radius=at_least_zero("the radius", radius))

    def project(self, v: Tensor) -> Tensor:
        """Return v min(1, radius / |v|), entry by entry."""
        if not v.is_complex():
            radius = like(self.radius, v)
            return v.clamp(min=-radius, max=radius)  # type: ignore[arg-type]
        size = v.abs()
        radius = like(self.radius, size)
        outside = size > radius
        return v * torch.where(outside, radius / torch.where(outside, size, 1), 1)
