"""The simplex, and what reduces to it: the l1 ball and sphere, the sparse simplex, the ball of groups."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll._proximal import at_least_zero, hold, like
from unroll.sets._base import NonConvexProjector, SetProjector, WithRadius, direction, unit
from unroll.sets._groups import Groups


class Simplex(SetProjector):
    """Projection onto {x : x >= 0, sum_i x_i = total}: max(v - theta, 0), theta such that the sum is right.

    Shapes: vectors along the last dimension, the others are batch; ``total`` >= 0 is a number, or a tensor that
    broadcasts against (..., 1). Real; entries of -inf become 0. Exact, by sorting: O(n log n). The largest entry is
    subtracted first, so that a common offset of 1e9 costs no digit.

    Source: J. Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions", 2008.
    """

    total: float | Tensor

    def __init__(self, total: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(self, total=at_least_zero("the total", total))

    def project(self, v: Tensor) -> Tensor:
        """Return max(v - theta, 0)."""
        return onto_simplex(v, like(self.total, v))


class L1Ball(WithRadius):
    """Projection onto {x : ||x||_1 <= radius}: the soft threshold of v at the theta >= 0 that it takes to be inside.

    Shapes: vectors along the last dimension, the others are batch; ``radius`` >= 0 is a number, or a tensor that
    broadcasts against (..., 1). Real or complex. Exact, by sorting: O(n log n).

    Source: J. Duchi et al., "Efficient projections onto the l1-ball for learning in high dimensions", 2008.
    """

    def project(self, v: Tensor) -> Tensor:
        """Return the soft-thresholded v; what is inside stays as it is, bit by bit."""
        size = v.abs()
        radius = like(self.radius, size)
        outside = size.sum(-1, keepdim=True) > radius
        return torch.where(outside, torch.sgn(v) * onto_simplex(size, radius), v)


class L1Sphere(WithRadius, NonConvexProjector):
    """Projection onto {x : ||x||_1 = radius}: the moduli are projected onto the simplex, signs stay. Not convex.

    Entries of 0 may grow, and are then positive. Shapes: vectors along the last dimension, the others are batch;
    ``radius`` >= 0 is a number, or a tensor that broadcasts against (..., 1). Real or complex. Exact: O(n log n).

    Source: as for :class:`L1Ball`, outside of which the two are the same.
    """

    def project(self, v: Tensor) -> Tensor:
        """Return sign(v) P(|v|), P the projection onto the simplex."""
        size = v.abs()
        return direction(v) * onto_simplex(size, like(self.radius, size))


class SparseSimplex(NonConvexProjector):
    """Projection onto {x : x >= 0, sum_i x_i = total, at most s entries are not 0}. Not convex.

    The s largest entries of v are projected onto the simplex, the others are 0; of equal ones any may be taken.

    Shapes: vectors along the last dimension, of at least s entries; the others are batch. ``total`` >= 0 is a number,
    or a tensor that broadcasts against (..., 1). Real. Exact: O(n log n).

    Source: A. Kyrillidis et al., "Sparse projections onto the simplex", 2013.
    """

    total: float | Tensor

    def __init__(self, s: int, total: float | Tensor = 1.0) -> None:
        super().__init__()
        if s < 1:
            raise ValueError(f"s must be at least 1, got {s}")
        self.s = s
        hold(self, total=at_least_zero("the total", total))

    def project(self, v: Tensor) -> Tensor:
        """Return the projection of the s largest entries."""
        if v.shape[-1] <= self.s:
            return onto_simplex(v, like(self.total, v))
        largest = v.topk(self.s, dim=-1)
        return torch.zeros_like(v).scatter(-1, largest.indices, onto_simplex(largest.values, like(self.total, v)))


class GroupBall(WithRadius):
    """Projection onto {x : sum_g ||x_g||_2 <= radius}, the ball of the l1,2 norm, for groups g of entries.

    The norms of the groups are projected onto the l1 ball, and every group keeps its direction.

    Args:
        groups: (n,), the number 0..G-1 of the group that each entry belongs to; or an integer, the size of consecutive
            groups.
        radius: >= 0, a number, or a tensor that broadcasts against (..., 1).

    Shapes: vectors (..., n) along the last dimension, the others are batch. Real or complex. Exact: O(n + G log G).

    Source: E. van den Berg and M. Friedlander, "Sparse optimization with least-squares constraints", 2011.
    """

    def __init__(self, groups: int | Tensor, radius: float | Tensor = 1.0) -> None:
        super().__init__(radius)
        self.groups = Groups(groups)

    def project(self, v: Tensor) -> Tensor:
        """Return v with the norms of its groups projected onto the l1 ball."""
        norms = self.groups.norms(v)
        radius = like(self.radius, norms)
        outside = norms.sum(-1, keepdim=True) > radius
        factors = torch.where(outside, unit(onto_simplex(norms, radius), norms), 1)
        return v * self.groups.spread(factors, v.shape[-1])


def onto_simplex(v: Tensor, total: float | Tensor) -> Tensor:
    """Return the projection of real vectors, along the last dimension, onto the simplex."""
    with torch.no_grad():
        largest = v.amax(-1, keepdim=True)
        active = _active(v - largest, total)
    # The result does not depend on what is subtracted, so its gradient need not either.
    moved = v - largest
    count = active.sum(-1, keepdim=True).clamp(min=1)
    theta = (torch.where(active, moved, 0).sum(-1, keepdim=True) - total) / count
    return (moved - theta).relu()


def _active(moved: Tensor, total: float | Tensor) -> Tensor:
    """Return which entries of the projection are above 0, of vectors whose largest entry is 0."""
    # theta >= -total: what is below counts as if it were there, and large values cancel nowhere.
    least = -torch.as_tensor(total, dtype=moved.dtype, device=moved.device)
    descending = torch.maximum(moved, least).sort(dim=-1, descending=True).values
    sums = descending.cumsum(-1) - total
    ranks = torch.arange(1, moved.shape[-1] + 1, dtype=moved.dtype, device=moved.device)
    count = (descending * ranks > sums).sum(-1, keepdim=True).clamp(min=1)
    return moved > sums.gather(-1, count - 1) / count
