"""The solvers of style transfer, exact and learned, behind one interface.

Every solver is called as ``solver(content, style, projector=None, steps=None, probe=None)`` and returns an
:class:`unroll.Solution`: the picture, not clipped, and what ``probe(x_t, t)`` returned at t = 0..N.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from apps.style_transfer.losses import (
    CONTENT_WEIGHT,
    STYLE_WEIGHT,
    PhotorealismLoss,
    Targets,
    encode_targets,
    reference_objective,
)
from apps.style_transfer.update import GramUpdate
from graphs import matting
from unroll import GradientStep, Loss, Operator, Probe, Scaled, Solution, Unrolled

PHOTO_WEIGHT = 1e8
"""lambda_L of the ``luan`` solver by default, with the reference objective.

Measured on the shipped pair at 112 pixels, 20 iterations: the matting energy Tr(X^T L X) / n falls from 1.9e-2 without
to 1.3e-2, 3.5e-3 and 6.8e-4 with 1e6, 1e7 and 1e8, while the total without it rises from 4.07e5 to 4.69e5 at the last.
Luan et al.'s published outputs lie at 1.2e-3.
"""


class StyleSolver(Protocol):
    """What a solver of style transfer is; ``default_steps`` is the N of a call that does not say."""

    default_steps: int

    def __call__(
        self,
        content: Tensor,
        style: Tensor,
        *,
        projector: Operator | None = None,
        steps: int | None = None,
        probe: Probe | None = None,
    ) -> Solution:
        """Restyle ``content`` (1, 3, H, W) after ``style`` (1, 3, H', W'), both RGB in [0, 1]."""
        ...


class Learned:
    """X <- P[X - alpha g_t(X)] from X_c with the learned g_t: the flexible solver of Puy and Perez."""

    def __init__(self, solver: Unrolled, *, alpha: float = 1.0) -> None:
        if not isinstance(solver.update, GramUpdate):
            raise TypeError(f"the learned solver needs a GramUpdate, got {type(solver.update).__name__}")
        self.encode = solver.update.encode
        self.unrolled = Unrolled(solver.update if alpha == 1 else Scaled(solver.update, alpha), steps=solver.steps)
        self.default_steps = solver.steps

    @torch.no_grad()
    def __call__(
        self,
        content: Tensor,
        style: Tensor,
        *,
        projector: Operator | None = None,
        steps: int | None = None,
        probe: Probe | None = None,
    ) -> Solution:
        """Run the N learned steps."""
        return self.unrolled(content, self.encode(style), projector=projector, steps=steps, probe=probe)  # type: ignore[no-any-return]


class Descent:
    """X <- P[X - alpha mu grad L(X)] from X_c with exact gradients; mu = ``step_size`` n for n pixels.

    L is divided by the number of pixels and its gradient with it, hence the n: one step size serves all sizes. The
    default is the largest we saw descend steadily with the reference objective; three times that oscillates.
    """

    default_steps = 50

    def __init__(
        self,
        vgg: nn.Module,
        *,
        content_weight: float = CONTENT_WEIGHT,
        style_weight: float = STYLE_WEIGHT,
        alpha: float = 1.0,
        step_size: float = 3e-10,
    ) -> None:
        self.vgg = vgg
        self.objective = reference_objective(vgg, content_weight=content_weight, style_weight=style_weight)
        self.step_size = alpha * step_size

    @torch.no_grad()
    def __call__(
        self,
        content: Tensor,
        style: Tensor,
        *,
        projector: Operator | None = None,
        steps: int | None = None,
        probe: Probe | None = None,
    ) -> Solution:
        """Run the gradient steps."""
        targets = encode_targets(self.vgg, content, style)
        update = GradientStep(self.objective, self.step_size * content.shape[-2] * content.shape[-1])
        solver = Unrolled(update, steps=self.default_steps)
        return solver(content, targets, projector=projector, steps=steps, probe=probe)  # type: ignore[no-any-return]


class LBFGS:
    """L-BFGS on the objective from X_c: Gatys et al., and with ``photo_weight`` > 0 Luan et al.

    By default the yardstick: torch's LBFGS with one function evaluation an iteration, history 20, rate 1, no line
    search, no clamping, the objective scaled by 1e-5. ``alpha`` is the rate. With a projector, each iteration is
    followed by a projection of the iterate.
    """

    default_steps = 50
    scale = 1e-5

    def __init__(
        self,
        vgg: nn.Module,
        *,
        content_weight: float = CONTENT_WEIGHT,
        style_weight: float = STYLE_WEIGHT,
        photo_weight: float = 0.0,
        alpha: float = 1.0,
    ) -> None:
        self.vgg = vgg
        self.photo_weight = photo_weight
        self.objective: Loss = reference_objective(vgg, content_weight=content_weight, style_weight=style_weight)
        if photo_weight:
            self.objective = self.objective + photo_weight * PhotorealismLoss()
        self.alpha = alpha

    def __call__(
        self,
        content: Tensor,
        style: Tensor,
        *,
        projector: Operator | None = None,
        steps: int | None = None,
        probe: Probe | None = None,
    ) -> Solution:
        """Run the iterations."""
        laplacian = matting(content).to(content.device) if self.photo_weight else None
        targets = encode_targets(self.vgg, content, style, laplacian)
        x = content.clone(memory_format=torch.contiguous_format).requires_grad_()
        optimiser = torch.optim.LBFGS([x], lr=self.alpha, max_iter=1, history_size=20)
        trace: list[Any] = [] if probe is None else [probe(x.detach().clone(), 0)]
        for t in range(self.default_steps if steps is None else steps):
            optimiser.step(partial(self._evaluate, x, targets))  # type: ignore[no-untyped-call]
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
