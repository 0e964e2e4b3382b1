"""The unrolled solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from unroll._adjoint import Adjoint, Backprop
from unroll._operator import Operator
from unroll._update import LearnedUpdate

Probe = Callable[[Tensor, int], Any]


class Solution(NamedTuple):
    """What a solver returns: ``x``, the last iterate, and ``trace``, what the probe returned at t = 0..N."""

    x: Tensor
    trace: tuple[Any, ...] = ()


class Unrolled(nn.Module):
    """The unrolled solver x_{t+1} = P[x_t - g_t(x_t)], t = 0..N-1.

    The operator P is an argument of the call and of the call alone: to swap, add or remove it leaves the state dict
    unchanged and needs no retraining. It is called with tau = 1, as P(x_t - g_t(x_t), t=t).

    >>> import torch, unroll
    >>> class Distance(unroll.Loss):
    ...     def forward(self, x, data):
    ...         return 0.5 * (x - data).square().sum(-1)
    >>> descent = unroll.Unrolled(unroll.GradientStep(Distance(), 0.5), steps=30)
    >>> descent(torch.zeros(1, 2), torch.tensor([[2.0, 0.5]]), projector=unroll.Box(0, 1)).x
    tensor([[1.0000, 0.5000]])

    Args:
        update: g_t. It is given x_t, the ``data`` of the call and t.
        steps: N, how many iterations a call runs unless it says otherwise.
    """

    def __init__(self, update: LearnedUpdate, *, steps: int) -> None:
        super().__init__()
        self.update = update
        self.steps = steps
        self._check(steps)

    def forward(
        self,
        x0: Tensor,
        data: Any = None,
        *,
        projector: Operator | None = None,
        steps: int | None = None,
        probe: Probe | None = None,
        adjoint: Adjoint | None = None,
    ) -> Solution:
        """Iterate from x0.

        Args:
            x0: the start, of any shape, dtype and device that update and projector take.
            data: handed to the update as it is; the solver never looks inside.
            projector: P; None leaves the iteration unconstrained.
            steps: N for this call. A tied update may go on past the number it was trained for.
            probe: ``probe(x_t, t)`` is called for t = 0..N, under the caller's gradient mode; what it returns is the
                trace. Whatever a probe computes is computed only when it is there.
            adjoint: how to differentiate; None is :class:`Backprop`.

        Raises:
            ValueError: more steps than the update has parameters for; an update or projector that changes the shape.
        """
        steps = self._check(self.steps if steps is None else steps)
        trace: list[Any] = []

        def step(x: Tensor, t: int) -> Tensor:
            v = x - _same_shape(self.update(x, data, t), x, self.update)
            return v if projector is None else _same_shape(projector(v, t=t), x, projector)

        def visit(x: Tensor, t: int) -> None:
            if probe is not None:
                trace.append(probe(x, t))

        x = (adjoint or Backprop())(step, x0, steps, visit)
        return Solution(x, tuple(trace))

    def _check(self, steps: int) -> int:
        limit = self.update.max_steps
        if steps < 0:
            raise ValueError(f"the number of steps must be at least 0, got {steps}")
        if limit is not None and steps > limit:
            raise ValueError(
                f"{type(self.update).__name__} has parameters for {limit} steps, {steps} were asked for: ask for "
                "fewer, or tie the update over t"
            )
        return steps


def _same_shape(y: Tensor, x: Tensor, source: nn.Module) -> Tensor:
    if y.shape != x.shape:
        raise ValueError(
            f"{type(source).__name__} returned the shape {tuple(y.shape)} for an iterate of shape {tuple(x.shape)}: "
            "it must keep the shape"
        )
    return y
