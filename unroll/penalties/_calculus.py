"""New proximal operators from given ones, by the rules that hold exactly.

Each takes the shapes that the operator inside takes, at the cost of that and of O(n).

Source of all: P. Combettes and J.-C. Pesquet, "Proximal splitting methods in signal processing", 2011, table 10.1;
N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from unroll._operator import Operator, ProximalOperator
from unroll._proximal import at_least_zero, hold, like


class _Derived(ProximalOperator):
    """A proximal operator made of another one; it says itself which laws it keeps, for that depends on the other."""

    def __init__(self, operator: ProximalOperator, *, idempotent: bool, linear: bool) -> None:
        super().__init__()
        if not isinstance(operator, ProximalOperator):
            raise TypeError(
                f"{type(self).__name__} is made of a ProximalOperator, and {type(operator).__name__} is none: "
                "the rule holds for no other"
            )
        self.operator = operator
        self.convex = operator.convex  # type: ignore[misc]  # laws of the operator inside, known per instance only
        self.idempotent = idempotent  # type: ignore[misc]
        self.linear = linear  # type: ignore[misc]


class Weighted(_Derived):
    """The prox of g(x) = weight f(x), prox_{tau weight f}(v), from prox_{tau f}.

    ``weight`` > 0 is a number or a tensor, a Parameter if it is to be learned; a projector stays what it is. Shapes and
    cost are those of f.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 2.2.
    """

    weight: float | Tensor

    def __init__(self, operator: ProximalOperator, weight: float | Tensor) -> None:
        super().__init__(operator, idempotent=operator.idempotent, linear=operator.linear)
        hold(self, weight=_above_zero("the weight", weight))

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return prox_{tau weight f}(v)."""
        moved: Tensor = self.operator(v, tau * _real(self.weight, v), t=t)
        return moved


class Rescaled(_Derived):
    """The prox of g(x) = f(a x), for a number a != 0: prox_{tau a^2 f}(a v) / a.

    Of the projection onto C it makes that onto C / a. Shapes and cost are those of f.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 2.2.
    """

    def __init__(self, operator: ProximalOperator, a: float) -> None:
        super().__init__(operator, idempotent=operator.idempotent, linear=operator.linear)
        if not (a == a and a != 0 and abs(a) != float("inf")):
            raise ValueError(f"a must be a number other than 0, got {a}")
        self.a = a

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return prox_{tau a^2 f}(a v) / a."""
        moved: Tensor = self.operator(self.a * v, tau * self.a**2, t=t) / self.a
        return moved


class Translated(_Derived):
    """The prox of g(x) = f(x - offset): offset + prox_{tau f}(v - offset).

    Of the projection onto C it makes that onto offset + C. ``offset`` broadcasts against the signal and is used in its
    dtype and on its device; it may be a Parameter. Shapes and cost are those of f.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 2.2.
    """

    offset: Tensor

    def __init__(self, operator: ProximalOperator, offset: Tensor) -> None:
        super().__init__(operator, idempotent=operator.idempotent, linear=False)
        hold(self, offset=offset)

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return offset + prox_{tau f}(v - offset)."""
        offset = self.offset.to(v)
        try:
            offset = offset.expand_as(v)
        except RuntimeError:
            raise ValueError(f"the offset {tuple(offset.shape)} does not fit the signal {tuple(v.shape)}") from None
        moved: Tensor = offset + self.operator(v - offset, tau, t=t)
        return moved


class QuadraticPerturbation(_Derived):
    """The prox of g(x) = f(x) + ridge/2 ||x - centre||^2, ridge >= 0: prox_{s f}(s (v / tau + ridge centre)).

    Here s = tau / (1 + tau ridge). ``ridge`` and ``centre`` are numbers or tensors; tau ridge must be constant where f
    couples entries, ``centre`` broadcasts against v. With 0 < ridge, g is strongly convex and its prox a contraction.
    Shapes and cost are those of f.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 2.2.
    """

    ridge: float | Tensor
    centre: float | Tensor

    def __init__(self, operator: ProximalOperator, ridge: float | Tensor, centre: float | Tensor = 0.0) -> None:
        still = not isinstance(centre, Tensor) and centre == 0
        super().__init__(operator, idempotent=False, linear=operator.linear and still)
        hold(self, ridge=at_least_zero("the ridge", ridge), centre=centre)

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return prox_{s f}((v + tau ridge centre) / (1 + tau ridge))."""
        ridge = tau * _real(self.ridge, v)
        shift = ridge * like(self.centre, v)
        moved: Tensor = self.operator((v + shift) / (1 + ridge), tau / (1 + ridge), t=t)
        return moved


class Conjugate(_Derived):
    """The prox of the convex conjugate f*(x) = sup_z Re <x, z> - f(z), by Moreau: v - tau prox_{f / tau}(v / tau).

    Of the projection onto C it makes the prox of its support function, and of that onto a cone minus the projection
    onto its dual. Only for convex f. Where v / tau is large and f small the difference cancels, so that the error is
    relative to v. Shapes and cost are those of f.

    Source: J.-J. Moreau, "Proximité et dualité dans un espace hilbertien", 1965.
    """

    def __init__(self, operator: ProximalOperator) -> None:
        super().__init__(operator, idempotent=False, linear=operator.linear)
        if not operator.convex:
            raise TypeError(f"Conjugate needs a convex function, and {type(operator).__name__} is not of one")

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return v - tau prox_{f / tau}(v / tau)."""
        moved: Tensor = v - tau * self.operator(v / tau, 1 / tau, t=t)
        return moved


class Separable(ProximalOperator):
    """The prox of f(x_1, ..., x_m) = f_1(x_1) + ... + f_m(x_m): each variable by its own operator.

    ``forward`` takes a tuple of m tensors and returns one; or, with ``sizes``, one tensor that holds the variables side
    by side along its last dimension, (..., sum(sizes)), as the state of a solver does. Shapes and cost are those of the
    f_i.

    Args:
        operators: m of them; laws are kept that all of them keep.
        sizes: the lengths of the variables.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 2.1.
    """

    def __init__(self, operators: Iterable[Operator], sizes: Iterable[int] | None = None) -> None:
        super().__init__()
        self.operators = nn.ModuleList(operators)
        self.sizes = None if sizes is None else list(sizes)
        parts = [part for part in self.operators if isinstance(part, Operator)]
        if not parts or len(parts) != len(self.operators):
            raise TypeError("Separable is made of operators, and at least one")
        if self.sizes is not None and (len(self.sizes) != len(parts) or min(self.sizes) < 1):
            raise ValueError(f"Separable needs a size >= 1 for each of its {len(parts)} operators, got {self.sizes}")
        for law in ("convex", "idempotent", "linear"):
            setattr(self, law, all(getattr(part, law) for part in parts))

    def forward(self, v: Any, tau: float | Tensor = 1.0, *, t: int | None = None) -> Any:
        """Return prox_{tau f_i}(v_i) for every i, in the form of v."""
        joined = isinstance(v, Tensor)
        if joined:
            if self.sizes is None or v.shape[-1:] != (sum(self.sizes),):
                raise ValueError(
                    f"Separable splits a tensor by its sizes, {self.sizes}, and this one has the shape "
                    f"{tuple(v.shape)}: give the sizes, or pass a tuple of tensors"
                )
            v = v.split(self.sizes, dim=-1)
        elif len(v) != len(self.operators):
            raise ValueError(f"Separable has {len(self.operators)} operators, and was given {len(v)} tensors")
        results = tuple(operator(part, tau, t=t) for operator, part in zip(self.operators, v, strict=True))
        return torch.cat(results, dim=-1) if joined else results


def _above_zero(what: str, value: float | Tensor) -> float | Tensor:
    if not isinstance(value, nn.Parameter) and not bool(torch.as_tensor(value > 0).all()):
        raise ValueError(f"{what} must be above 0, got {value}")
    return value


def _real(number: float | Tensor, v: Tensor) -> float | Tensor:
    """Return a number in the dtype of the real part of v, on its device."""
    return like(number, v.real if v.is_complex() else v)
