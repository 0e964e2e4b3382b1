"""What the proximal operators of this package have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll._operator import ProximalOperator
from unroll._proximal import at_least_zero, hold, like, without_autocast
from unroll.sets._base import working


class Penalty(ProximalOperator):
    """prox_{tau f} of f(x) = weight h(x), x a vector or a matrix in the last dimensions of a signal; others are batch.

    A subclass names h and defines ``prox(v, strength)``, strength = tau weight. Half precision is computed in float32,
    autocast has no effect; the result has the dtype and the device of v. tau is a number, or a tensor that broadcasts
    against the signal and is constant over each vector or matrix.

    Attributes:
        weight: >= 0, a number, or a tensor (a Parameter, if it is to be learned); what it broadcasts against, the
            subclass says.
        point_dims: how many of the last dimensions one vector or matrix takes; 0 for a sum over the entries.
        takes_complex: whether complex signals are taken.
    """

    point_dims: int = 0
    takes_complex: bool = False
    weight: float | Tensor

    def __init__(self, weight: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(self, weight=at_least_zero("the weight", weight))

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return prox_{tau f}(v)."""
        with without_autocast(v):
            work = working(self, v, self.point_dims, self.takes_complex)
            real = work.real if work.is_complex() else work
            return self.prox(work, like(tau, real) * like(self.weight, real)).to(v.dtype)

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return argmin_x strength h(x) + 1/2 ||x - v||^2."""
        raise NotImplementedError(f"{type(self).__name__} must define prox(v, strength)")


def positive_root(b: Tensor, c: float | Tensor) -> Tensor:
    """Return the root x >= 0 of x^2 - b x - c = 0, for c >= 0, without cancellation; max(b, 0) where c = 0."""
    c = torch.as_tensor(c, dtype=b.dtype, device=b.device).expand_as(b)
    proper = c > 0
    root = torch.hypot(b, 2 * torch.where(proper, c, 1).sqrt())
    # For b < 0 the difference in (b + root) / 2 would cancel: its product with the other root is -c.
    falling = b < 0
    x = torch.where(falling, 2 * c / torch.where(falling, root - b, 1), (b + root) / 2)
    return torch.where(proper, x, b.relu())
