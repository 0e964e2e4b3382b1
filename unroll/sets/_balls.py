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

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, chapter 6.
    """

    def project(self, v: Tensor) -> Tensor:
        """Return v min(1, radius / ||v||); what is inside stays as it is, bit by bit."""
        size = norm(v)
        return shortened(v, size, like(self.radius, size))


class L2Sphere(WithRadius, NonConvexProjector):
    """Projection onto {x : ||x||_2 = radius}: radius v / ||v||, and radius e_1 for v = 0. Not convex.

    Shapes: vectors along the last dimension, the others are batch; ``radius`` >= 0 is a number, or a tensor that
    broadcasts against (..., 1). Real or complex. Cost: O(n).

    Source: H. Bauschke and P. Combettes, "Convex analysis and monotone operator theory in Hilbert spaces", 2017, for
    the ball; outside of it the two are the same, and inside all points but 0 have one nearest.
    """

    def project(self, v: Tensor) -> Tensor:
        """Return radius v / ||v||."""
        size = norm(v)
        radius = torch.as_tensor(like(self.radius, size), dtype=size.dtype, device=size.device)
        x = v * unit(radius, size)
        x[..., :1] += torch.where(size > 0, 0, radius)
        return x


class LinfBall(WithRadius):
    """Projection onto {x : max |x_i| <= radius}: entries are cut off at the radius, complex ones keep their phase.

    Shapes: any; ``radius`` >= 0 is a number, or a tensor that broadcasts against v. Cost: O(n).

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, chapter 6.
    """

    point_dims = 0

    def project(self, v: Tensor) -> Tensor:
        """Return v min(1, radius / |v|), entry by entry."""
        if not v.is_complex():
            radius = like(self.radius, v)
            return v.clamp(min=-radius, max=radius)  # type: ignore[arg-type]
        size = v.abs()
        return shortened(v, size, like(self.radius, size))
