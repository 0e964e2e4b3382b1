"""The unrolled solver."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from unroll._adjoint import Adjoint, Backprop
from unroll._iteration import Iteration, Probe
from unroll._operator import Operator
from unroll._scheme import ForwardBackward, Scheme
from unroll._status import Status, Tolerance
from unroll._update import LearnedUpdate


class Solution(NamedTuple):
    """What a solver returns.

    ``x`` is the last iterate, ``trace`` what the probe returned at t = 0..N and ``status`` how it went, if the call had
    a tolerance.
    """

    x: Tensor
    trace: tuple[Any, ...] = ()
    status: Status | None = None


class Unrolled(nn.Module):
    """The unrolled solver x_{t+1} = P[x_t - g_t(x_t)], t = 0..N-1, or another scheme of the same parts.

    The operator P is an argument of the call and of the call alone: to swap, add or remove it leaves the state dict
    unchanged and needs no retraining. By default it is called with tau = 1, as P(x_t - g_t(x_t), 1.0, t=t).

    >>> import torch, unroll
    >>> class Distance(unroll.Loss):
    ...     def forward(self, x, data):
    ...         return 0.5 * (x - data).square().sum(-1)
    >>> descent = unroll.Unrolled(unroll.GradientStep(Distance(), 0.5), steps=30)
    >>> y = torch.tensor([[2.0, 0.5]])
    >>> descent(torch.zeros(1, 2), y, projector=unroll.Box(0, 1)).x
    tensor([[1.0000, 0.5000]])
    >>> print(descent(torch.zeros(1, 2), y, until=unroll.Tolerance(rtol=1e-3)).status)
    1 of 1 samples converged in 10 steps

    Args:
        update: g_t. It is given x_t, the ``data`` of the call and t.
        steps: N, how many iterations a call runs unless it says otherwise.
        scheme: what a step makes of update and projector; None is :class:`ForwardBackward`, the iteration above.
    """

    def __init__(self, update: LearnedUpdate, *, steps: int, scheme: Scheme | None = None) -> None:
        super().__init__()
        self.update = update
        self.steps = steps
        self.scheme = scheme or ForwardBackward()
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
        until: Tolerance | None = None,
        check_finite: bool = False,
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
            until: stop when every sample has converged, or ceased to be finite; N is then the most steps it may take,
                and the solution has a status. It looks at every iterate, which waits for the device.
            check_finite: raise where an iterate is not finite; this looks at every iterate as well.

        Raises:
            ValueError: more steps than the update has parameters for; an update or projector that changes the shape;
                parameters and x0 on different devices; with ``check_finite``, an iterate that is not finite.
            TypeError: a projector that changes the dtype.
        """
        steps = self._check(self.steps if steps is None else steps)
        iteration = Iteration(
            self.scheme, self.update, projector, data, probe=probe, until=until, check_finite=check_finite
        )
        try:
            x = (adjoint or Backprop())(iteration, self.scheme.init(x0, data), steps)
        except RuntimeError as error:
            self._check_devices(x0, error)
            raise
        return Solution(x, tuple(iteration.trace), iteration.status)

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

    def _check_devices(self, x0: Tensor, error: RuntimeError) -> None:
        # Asked only when something has failed: parameters may rightly lie elsewhere where a hook brings them.
        for name, parameter in self.named_parameters():
            if parameter.device != x0.device:
                raise ValueError(
                    f"the parameter {name!r} of the solver is on {parameter.device} and x0 on {x0.device}: "
                    "move one of them with .to(device)"
                ) from error
