"""What may stand in the loop after the update: operators, proximal operators, projectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn


class Operator(nn.Module):
    """A map v -> P(v) of signals to signals of the same shape, dtype and device.

    The class attributes say which laws the operator keeps; the test-suite checks each law that is claimed.

    - ``linear``: P(a u + b v) = a P(u) + b P(v) and <P u, v> = <u, P v> (self-adjoint).
    - ``idempotent``: P(P(v)) = P(v).
    - ``convex``: P is the proximal operator of a convex function, hence firmly non-expansive:
      ||P u - P v||^2 <= Re <P u - P v, u - v>.
    """

    convex: ClassVar[bool] = False
    idempotent: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return P(v).

        ``tau`` > 0 is the step of a proximal operator (others ignore it) and ``t`` the iteration, counted from 0, for
        the operators that depend on it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(v, tau=1.0, *, t=None)")


class ProximalOperator(Operator):
    """prox_{tau f}(v) = argmin_x f(x) + 1/(2 tau) ||x - v||^2 for a function f that the subclass names.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014.
    """

    convex = True


class Projector(ProximalOperator):
    """P_C(v) = argmin_{x in C} ||x - v||^2, the proximal operator of the indicator of a set C; tau is idle."""

    idempotent = True


class Identity(Projector):
    """The projection onto the whole space, P(v) = v: the unconstrained solver."""

    linear = True

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return v itself, uncopied."""
        return v


class Compose(Operator):
    """One operator after another, v -> P_m(... P_2(P_1(v))), applied in the order given.

    Alternating projections in one round, and not the projection onto the intersection: it promises no law, even where
    each part does.
    """

    def __init__(self, operators: Iterable[Operator]) -> None:
        super().__init__()
        self.operators = nn.ModuleList(operators)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return P_m(... P_1(v)), with the same tau and t for each."""
        for operator in self.operators:
            v = operator(v, tau, t=t)
        return v
