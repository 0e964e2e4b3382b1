"""Losses: per-sample values that add and scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn


class Loss(nn.Module):
    """A function x, data -> (B,) of real values, one for each sample of the batch.

    Losses add and scale, ``1.0 * content + 1e-4 * style``; every term is given the same x and data, and ``data`` is
    whatever the terms need: the algebra never looks inside.
    """

    def forward(self, x: Any, data: Any) -> Tensor:
        """Return the value for each sample, shape (B,)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, data)")

    def __add__(self, other: Loss) -> WeightedSum:
        if not isinstance(other, Loss):
            return NotImplemented
        return WeightedSum([(1.0, self), (1.0, other)])

    def __radd__(self, other: object) -> Loss:
        # sum([...]) starts from the integer 0.
        return self if isinstance(other, int | float) and other == 0 else NotImplemented

    def __mul__(self, weight: float) -> WeightedSum:
        if not isinstance(weight, int | float):
            return NotImplemented
        return WeightedSum([(float(weight), self)])

    __rmul__ = __mul__


class WeightedSum(Loss):
    """sum_i w_i f_i(x, data): what the sum and the multiples of losses are. Nested sums are flattened."""

    def __init__(self, terms: Iterable[tuple[float, Loss]]) -> None:
        super().__init__()
        flat: list[tuple[float, nn.Module]] = []
        for weight, term in terms:
            if isinstance(term, WeightedSum):
                flat += [(weight * w, loss) for w, loss in zip(term.weights, term.losses, strict=True)]
            else:
                flat.append((weight, term))
        if not flat:
            raise ValueError("a sum of losses needs at least one term")
        self.weights: tuple[float, ...] = tuple(weight for weight, _ in flat)
        self.losses: nn.ModuleList = nn.ModuleList(loss for _, loss in flat)

    def forward(self, x: Any, data: Any = None) -> Tensor:
        """Return the weighted sum of the terms, shape (B,)."""
        terms = [weight * cast(Tensor, loss(x, data)) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return sum(terms[1:], start=terms[0])
