"""Functions with a logarithm, which keep a signal positive."""

from __future__ import annotations

from torch import Tensor

from unroll._proximal import at_least_zero, hold, like
from unroll.penalties._base import Penalty, positive_root


class LogBarrier(Penalty):
    """The prox of f(x) = -weight sum_i log x_i, x > 0: (v + sqrt(v^2 + 4 tau weight)) / 2.

    Any shape, real; ``weight`` broadcasts against v. The result is above 0 but for underflow, for v of any sign: the
    formula is arranged so that it does not cancel. Cost: O(n).

    Source: P. Combettes and J.-C. Pesquet, "Proximal splitting methods in signal processing", 2011, table 10.2.
    """

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return the positive root of x^2 - v x - strength = 0."""
        return positive_root(v, strength)


class KullbackLeibler(Penalty):
    """The prox of f(x) = weight sum_i (y_i log(y_i / x_i) + x_i - y_i), x >= 0: KL(y, x), the divergence of x from y.

    It is, up to a constant, the negative logarithm of the Poisson likelihood of counts y at the rate x, and y log y is
    0 at y = 0. The prox is (w + sqrt(w^2 + 4 tau weight y)) / 2 with w = v - tau weight.

    Args:
        y: >= 0, a number, or a tensor that broadcasts against v; as is ``weight``.

    Any shape, real. Cost: O(n).

    Source: P. Combettes and J.-C. Pesquet, "Proximal splitting methods in signal processing", 2011, table 10.2.
    """

    y: float | Tensor

    def __init__(self, y: float | Tensor, weight: float | Tensor = 1.0) -> None:
        super().__init__(weight)
        hold(self, y=at_least_zero("y", y))

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return the root x >= 0 of x^2 - (v - strength) x - strength y = 0."""
        return positive_root(v - strength, strength * like(self.y, v))
