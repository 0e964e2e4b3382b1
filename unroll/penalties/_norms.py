"""Norms and what is made of them: l2, groups, elastic net, Huber; l1 is :class:`unroll.SoftThreshold`."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll._proximal import at_least_zero, hold, like, shrunk
from unroll.penalties._base import Penalty
from unroll.sets._base import norm
from unroll.sets._groups import Groups


def _shrink(size: Tensor, strength: float | Tensor) -> Tensor:
    """Return max(1 - strength / size, 0), and 0 for a size of 0."""
    outside = size > strength
    return torch.where(outside, 1 - strength / torch.where(outside, size, 1), 0)


class L2Norm(Penalty):
    """The prox of f(x) = weight ||x||_2, the norm itself: v max(1 - tau weight / ||v||, 0), whole vectors to 0.

    Shapes: vectors along the last dimension, the others are batch; ``weight`` broadcasts against (..., 1). Real or
    complex. Cost: O(n).

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 6.5.1.
    """

    point_dims = 1
    takes_complex = True

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return v, shorter by the strength."""
        return v * _shrink(norm(v), strength)


class GroupL1(Penalty):
    """The prox of f(x) = sum_g weight_g ||x_g||_2, the group lasso: each group is made shorter by tau weight_g.

    Args:
        groups: (n,), the number 0..G-1 of the group that each entry belongs to; or an integer, the size of consecutive
            groups.
        weight: a number, or a tensor that broadcasts against the norms of the groups (..., G).

    Shapes: vectors (..., n) along the last dimension, the others are batch. Real or complex. Cost: O(n).

    Source: M. Yuan and Y. Lin, "Model selection and estimation in regression with grouped variables", 2006.
    """

    point_dims = 1
    takes_complex = True

    def __init__(self, groups: int | Tensor, weight: float | Tensor = 1.0) -> None:
        super().__init__(weight)
        self.groups = Groups(groups)

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return every group, shorter by its strength."""
        return v * self.groups.spread(_shrink(self.groups.norms(v), strength), v.shape[-1])


class SquaredL2(Penalty):
    """The prox of f(x) = weight/2 ||x||_2^2: v / (1 + tau weight). Any shape, real or complex.

    ``weight`` broadcasts against v. Linear and self-adjoint. Cost: O(n).

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, chapter 6.
    """

    linear = True
    takes_complex = True

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return v / (1 + strength)."""
        return v / (1 + strength)


class ElasticNet(Penalty):
    """The prox of f(x) = weight (||x||_1 + ridge/2 ||x||_2^2): the soft threshold, divided by 1 + tau weight ridge.

    Any shape, real or complex; ``weight`` and ``ridge`` >= 0 broadcast against v. Cost: O(n).

    Source: H. Zou and T. Hastie, "Regularization and variable selection via the elastic net", 2005.
    """

    takes_complex = True
    ridge: float | Tensor

    def __init__(self, weight: float | Tensor = 1.0, ridge: float | Tensor = 1.0) -> None:
        super().__init__(weight)
        hold(self, ridge=at_least_zero("the ridge", ridge))

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return sign(v) max(|v| - strength, 0) / (1 + strength ridge)."""
        return shrunk(v, strength) / (1 + strength * like(self.ridge, v.real if v.is_complex() else v))


class Huber(Penalty):
    """The prox of f(x) = weight sum_i h(x_i), h(x) = x^2 / 2 up to |x| = delta, delta (|x| - delta / 2) beyond.

    v / (1 + tau weight) for entries up to delta (1 + tau weight), beyond v without tau weight delta of its modulus.
    Any shape, real or complex; ``weight`` >= 0 and ``delta`` >= 0 broadcast against v. Cost: O(n).

    Source: P. Huber, "Robust estimation of a location parameter", 1964 (h).
    """

    takes_complex = True
    delta: float | Tensor

    def __init__(self, weight: float | Tensor = 1.0, delta: float | Tensor = 1.0) -> None:
        super().__init__(weight)
        hold(self, delta=at_least_zero("delta", delta))

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return v / (1 + strength), or v moved towards 0 by strength delta."""
        size = v.abs()
        shift = strength * like(self.delta, size)
        return torch.where(size <= like(self.delta, size) + shift, v / (1 + strength), v - torch.sgn(v) * shift)
