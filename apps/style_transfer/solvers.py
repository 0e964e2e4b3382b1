"""The solvers of style transfer, exact and learned, behind one interface.

Every solver is called as ``solver(content, solver.encode(style), projector=None, steps=None, probe=None, start=None)``
and returns an :class:`unroll.Solution`: the picture, not clipped, and what ``probe(x_t, t)`` returned at t = 0..N.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from apps.style_transfer.learned.update import GramUpdate
from apps.style_transfer.losses import (
    CONTENT_WEIGHT,
    STYLE_WEIGHT,
    PhotorealismLoss,
    Targets,
    encode_style,
    reference_objective,
)
from apps.style_transfer.projectors import ProjectorOptions
from graphs import Laplacian, matting
from unroll import GradientStep, Loss, Operator, Probe, Prolonged, Scaled, Solution, Unrolled

STEP_SIZE = 3e-10
"""mu / n of a gradient step: the largest we saw descend steadily with the reference objective; 9e-10 oscillates."""

PHOTO_WEIGHT = 1e8
"""lambda_L of the ``luan`` solver by default, with the reference objective.

Measured on the shipped pair at 112 pixels, 20 iterations: the matting energy Tr(X^T L X) / n falls from 1.9e-2 without
to 1.3e-2, 3.5e-3 and 6.8e-4 with 1e6, 1e7 and 1e8, while the total without it rises from 4.07e5 to 4.69e5 at the last.
Luan et al.'s published outputs lie at 1.2e-3.
"""


AGAIN = 2
"""How many of the last learned steps are taken in turn where more are asked for than were trained."""


class Call(NamedTuple):
    """What a call of a solver asks for: P, N, what looks inside, and x_0."""

    projector: Operator | None
    steps: float
    probe: Probe | None
    start: Tensor


class StyleSolver(ABC):
    """What a solver of style transfer is; ``default_steps`` is the N of a call that does not say."""

    default_steps: int

    @abstractmethod
    def encode(self, style: Tensor) -> Any:
        """Return what the solver needs of a style image (1, 3, H', W') in [0, 1]: for any number of photographs."""

    def steps_with(self, constraint: ProjectorOptions) -> float:
        """Return the N of a call that does not say, with this in the loop."""
        return self.default_steps

    def __call__(
        self,
        content: Tensor,
        style: Any,
        *,
        projector: Operator | None = None,
        steps: float | None = None,
        probe: Probe | None = None,
        start: Tensor | None = None,
    ) -> Solution:
        """Restyle ``content`` (1, 3, H, W), RGB in [0, 1], after a style that :meth:`encode` has read.

        ``start`` is x_0, of the content's shape; None is the content itself. ``steps`` is N; of the learned solver it
        may be a fraction. Raises ValueError.
        """
        count, x = self.default_steps if steps is None else steps, content if start is None else start
        return self.solve(content, style, Call(projector, count, probe, x))

    @abstractmethod
    def solve(self, content: Tensor, style: Any, call: Call) -> Solution:
        """Run the steps of a call."""


def whole(steps: float) -> int:
    """Return a number of steps that is whole. Raises ValueError."""
    if not float(steps).is_integer():
        raise ValueError(
            f"the number of steps must be whole, got {steps:g}: the learned solver alone takes parts of one"
        )
    return int(steps)


class Encoded(StyleSolver):
    """X <- P[X - alpha g_t(X)] from X_c, where g_t knows of the style what ``encode`` makes of it, once."""

    def __init__(self, solver: Unrolled, encode: Callable[[Tensor], Any], *, alpha: float = 1.0) -> None:
        self._encode = encode
        self.unrolled = Unrolled(solver.update if alpha == 1 else Scaled(solver.update, alpha), steps=solver.steps)
        self.default_steps = solver.steps

    @torch.no_grad()
    def encode(self, style: Tensor) -> Any:
        """Return what ``encode`` makes of the style."""
        return self._encode(style)

    @torch.no_grad()
    def solve(self, content: Tensor, style: Any, call: Call) -> Solution:
        """Run the N steps."""
        return _run(self.unrolled, style, call, whole(call.steps))


def _run(unrolled: Unrolled, style: Any, call: Call, count: int) -> Solution:
    return unrolled(call.start, style, projector=call.projector, steps=count, probe=call.probe)  # type: ignore[no-any-return]


class Learned(Encoded):
    """X <- P[X - alpha g_t(X)] from X_c with the learned g_t: the flexible solver of Puy and Perez.

    Beyond the N steps that were trained the last :data:`AGAIN` are taken again, in turn, and of a fraction of a step
    the last is so much shorter, see :func:`length`. Both are departures from the paper, which stops after N: with a
    projector in the loop further steps make good what it undoes, and without one they go on stylising.
    """

    def __init__(self, solver: Unrolled, *, alpha: float = 1.0) -> None:
        if not isinstance(solver.update, GramUpdate):
            raise TypeError(f"the learned solver needs a GramUpdate, got {type(solver.update).__name__}")
        self.update = solver.update
        self.alpha = alpha
        super().__init__(solver, self.update.encode, alpha=alpha)

    def steps_with(self, constraint: ProjectorOptions) -> float:
        """Return the trained N, and what the constraint asks for beyond."""
        return constraint.steps(self.default_steps)

    @torch.no_grad()
    def solve(self, content: Tensor, style: Any, call: Call) -> Solution:
        """Run the steps."""
        update = Scaled(prolonged(self.update), lambda t: self.alpha * length(t, call.steps))
        count = math.ceil(call.steps)
        return _run(Unrolled(update, steps=count), style, call, count)


def prolonged(update: GramUpdate) -> Prolonged:
    """Return the learned update that goes on past its N: with the last two in turn, or the one that it has."""
    return Prolonged(update, min(AGAIN, update.architecture.steps))


def length(t: int, steps: float) -> float:
    """Return how long step t of so many is, in (0, 1]: the last one is the part of a step that is left."""
    return min(1.0, steps - t)


class Refined(StyleSolver):
    """K steps of one solver, ``exact``, from the result of another: quality on demand, in proportion to the time.

    ``steps`` and ``projector`` of a call go to the first one, and the projector to both; the trace is that of the one
    after that of the other, with t counted through.
    """

    def __init__(self, first: StyleSolver, exact: StyleSolver, steps: int) -> None:
        self.first, self.exact, self.more = first, exact, steps
        self.default_steps = first.default_steps

    def steps_with(self, constraint: ProjectorOptions) -> float:
        """Return that of the first one."""
        return self.first.steps_with(constraint)

    def encode(self, style: Tensor) -> Any:
        """Return what either solver makes of the style."""
        return self.first.encode(style), self.exact.encode(style)

    def solve(self, content: Tensor, style: Any, call: Call) -> Solution:
        """Run the one, then K steps of the other."""
        probe, count = call.probe, math.ceil(call.steps)
        onward = None if probe is None else lambda x, t: probe(x, count + t)
        before = self.first.solve(content, style[0], call)
        after = self.exact.solve(content, style[1], Call(call.projector, self.more, onward, before.x))
        # The first of the second trace is the last of the first.
        return Solution(after.x, before.trace + after.trace[1:])


class _Exact(StyleSolver):
    """What the exact solvers share: the trunk, and the Grams of a style as what they need of it."""

    default_steps = 50

    def __init__(self, vgg: nn.Module, content_weight: float, style_weight: float) -> None:
        self.vgg = vgg
        self.objective: Loss = reference_objective(vgg, content_weight=content_weight, style_weight=style_weight)

    @torch.no_grad()
    def encode(self, style: Tensor) -> tuple[Tensor, ...]:
        """Return the Grams of the style image."""
        return encode_style(self.vgg, style)

    @torch.no_grad()
    def _targets(self, content: Tensor, style: tuple[Tensor, ...], laplacian: Laplacian | None = None) -> Targets:
        return Targets(self.vgg(content)[-1], style, laplacian)


class Descent(_Exact):
    """X <- P[X - alpha mu grad L(X)] from X_c with exact gradients; mu = ``step_size`` n for n pixels.

    L is divided by the number of pixels and its gradient with it, hence the n: one step size serves all sizes.
    """

    def __init__(
        self,
        vgg: nn.Module,
        *,
        content_weight: float = CONTENT_WEIGHT,
        style_weight: float = STYLE_WEIGHT,
        alpha: float = 1.0,
        step_size: float = STEP_SIZE,
    ) -> None:
        super().__init__(vgg, content_weight, style_weight)
        self.step_size = alpha * step_size

    @torch.no_grad()
    def solve(self, content: Tensor, style: Any, call: Call) -> Solution:
        """Run the gradient steps."""
        targets = self._targets(content, style)
        update = GradientStep(self.objective, self.step_size * content.shape[-2] * content.shape[-1])
        solver, steps = Unrolled(update, steps=self.default_steps), whole(call.steps)
        return solver(call.start, targets, projector=call.projector, steps=steps, probe=call.probe)  # type: ignore[no-any-return]


class LBFGS(_Exact):
    """L-BFGS on the objective from X_c: Gatys et al., and with ``photo_weight`` > 0 Luan et al.

    By default the yardstick: torch's LBFGS with one function evaluation an iteration, history 20, rate 1, no line
    search, no clamping, the objective scaled by 1e-5. ``alpha`` is the rate. With a projector, each iteration is
    followed by a projection of the iterate.

    torch's first step, min(1, 1 / ||grad||_1) grad, hardly moves an image and gives the history its scale. With
    ``first_step`` it is alpha ``first_step`` n grad L instead, a gradient step for n pixels: on four held-back pairs at
    192 pixels, from the learned result on, that saves one to two iterations of five.
    """

    scale = 1e-5

    def __init__(
        self,
        vgg: nn.Module,
        *,
        content_weight: float = CONTENT_WEIGHT,
        style_weight: float = STYLE_WEIGHT,
        photo_weight: float = 0.0,
        alpha: float = 1.0,
        first_step: float | None = None,
    ) -> None:
        super().__init__(vgg, content_weight, style_weight)
        self.photo_weight = photo_weight
        self.first_step = first_step
        if photo_weight:
            self.objective = self.objective + photo_weight * PhotorealismLoss()
        self.alpha = alpha

    def solve(self, content: Tensor, style: Any, call: Call) -> Solution:
        """Run the iterations."""
        laplacian = matting(content).to(content.device) if self.photo_weight else None
        targets = self._targets(content, style, laplacian)
        x = call.start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        optimiser = torch.optim.LBFGS([x], lr=self.alpha, max_iter=1, history_size=20)
        projector, probe = call.projector, call.probe
        trace: list[Any] = [] if probe is None else [probe(x.detach().clone(), 0)]
        for t in range(whole(call.steps)):
            loss = self._evaluate(x, targets)
            if t == 0 and self.first_step is not None:
                # In the first step the optimiser divides its rate by ||grad||_1, where that is above 1.
                stride = self.alpha * self.first_step * x.shape[-2] * x.shape[-1] / self.scale
                optimiser.param_groups[0]["lr"] = stride * max(1.0, float(cast(Tensor, x.grad).abs().sum()))
            optimiser.step(lambda found=loss: found)  # type: ignore[no-untyped-call]
            optimiser.param_groups[0]["lr"] = self.alpha
            with torch.no_grad():
                if projector is not None:
                    x.copy_(projector(x, t=t))
                if probe is not None:
                    trace.append(probe(x.detach().clone(), t + 1))
        return Solution(x.detach(), tuple(trace))

    def _evaluate(self, x: Tensor, targets: Targets) -> Tensor:
        with torch.enable_grad():
            loss = self.scale * cast(Tensor, self.objective(x, targets)).sum()
            (x.grad,) = torch.autograd.grad(loss, x)
        # The optimiser needs a gradient it can view as one row.
        x.grad = x.grad.contiguous()
        return loss.detach()
