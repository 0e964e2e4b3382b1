"""What is minimised: the distance from known solutions, or an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unroll._adjoint import Adjoint
from unroll._iteration import Probe
from unroll._operator import Operator
from unroll._solver import Solution, Unrolled

# What a loss returns: its value for each sample or their mean, and numbers for the log, if any.
LossFunction = Callable[["Solve", Any], Tensor | tuple[Tensor, Mapping[str, Tensor | float]]]


@dataclass(frozen=True)
class Solve:
    """The solver as a loss is to call it: with the projector, the steps and the adjoint of the training.

    Attributes:
        steps: N, that of the solver or of its present stage, see :class:`StageWise`.
    """

    solver: Unrolled
    projector: Operator | None
    steps: int
    adjoint: Adjoint | None

    def __call__(
        self, x0: Tensor, data: Any = None, *, steps: int | None = None, probe: Probe | None = None
    ) -> Solution:
        """Return the solution from x0, after ``steps`` steps if that is given."""
        n = self.steps if steps is None else steps
        return self.solver(  # type: ignore[no-any-return]
            x0, data, projector=self.projector, steps=n, adjoint=self.adjoint, probe=probe
        )


@dataclass(frozen=True)
class Supervised:
    """sum_t w_t mean_b d(x_t, x*), for batches (x0, data, x*).

    Args:
        distance: d(x, x*), a value for each sample or their mean: a :class:`Loss` or any function of two tensors. None
            is ||x - x*||^2, the first dimension being the batch.
        weights: those of the last iterates, the last of them for x_N; so (0.5, 1.0) weighs x_{N-1} and x_N. None is x_N
            alone. Where a stage has fewer iterates than there are weights, the last of them count.
    """

    distance: Callable[[Tensor, Any], Tensor] | None = None
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _check(self.weights)

    def __call__(self, solve: Solve, batch: Any) -> Tensor:
        """Return the loss of a batch."""
        x0, data, target = _parts(batch, 3, "(x0, data, target)", "Supervised")
        return _weighed(solve, x0, data, target, self.distance or squared_distance, self.weights)


@dataclass(frozen=True)
class Unsupervised:
    """sum_t w_t mean_b f(x_t, data), for batches (x0, data); a target in the third place is left alone.

    Args:
        objective: f, a :class:`Loss`.
        weights: as in :class:`Supervised`.
    """

    objective: Callable[[Tensor, Any], Tensor]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _check(self.weights)

    def __call__(self, solve: Solve, batch: Any) -> Tensor:
        """Return the loss of a batch."""
        x0, data = _parts(batch, 2, "(x0, data)", "Unsupervised")
        return _weighed(solve, x0, data, data, self.objective, self.weights)


def squared_distance(x: Tensor, target: Tensor) -> Tensor:
    """Return ||x - target||^2 for each sample."""
    if x.shape != target.shape:
        raise ValueError(
            f"the solver returned the shape {tuple(x.shape)} for a target of shape {tuple(target.shape)}: "
            "make x0 and the target alike"
        )
    return (x - target).abs().square().reshape(x.shape[0] if x.ndim > 1 else 1, -1).sum(1)


def _weighed(
    solve: Solve,
    x0: Tensor,
    data: Any,
    against: Any,
    value: Callable[[Tensor, Any], Tensor],
    weights: Sequence[float] | None,
) -> Tensor:
    if weights is None:
        return value(solve(x0, data).x, against).mean()
    first = solve.steps - len(weights) + 1  # the iterate that weights[0] is for

    def probe(x: Tensor, t: int) -> Tensor | None:
        weighs = t >= max(first, 1) and weights[t - first] != 0
        return weights[t - first] * value(x, against).mean() if weighs else None

    terms = [term for term in solve(x0, data, probe=probe).trace if term is not None]
    total: Tensor = sum(terms[1:], start=terms[0])
    return total


def _check(weights: Sequence[float] | None) -> None:
    if weights is not None and (not len(weights) or weights[-1] == 0):
        raise ValueError(f"weights are those of the last iterates and must not end in 0, got {tuple(weights)}")


def _parts(batch: Any, count: int, form: str, name: str) -> tuple[Any, ...]:
    if not isinstance(batch, tuple | list) or len(batch) < count:
        found = f"{len(batch)} parts" if isinstance(batch, tuple | list) else f"a {type(batch).__name__}"
        raise ValueError(f"{name} needs batches {form}, the data gave {found}")
    return tuple(batch[:count])
