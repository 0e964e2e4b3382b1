"""Updates g_t: learned, exact, proximal, untied over the iterations, scaled, prolonged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from unroll._loss import Loss
from unroll._operator import Operator


class LearnedUpdate(nn.Module):
    """The update g_t of the iteration x <- P[x - g_t(x)]; ``forward(x, data, t)`` returns a tensor of the shape of x.

    A bare update is tied: the same parameters serve at every t. One whose parameters are indexed by t sets
    ``max_steps``, the number of iterations it has parameters for; the solver refuses to run past it.
    """

    max_steps: int | None = None

    @property
    def tied(self) -> bool:
        """Whether g_t is the same at every t; only then have the iterations a fixed point to speak of."""
        return self.max_steps is None

    def tau(self, t: int) -> float | Tensor:
        """Return the step tau > 0 that g_t takes on its function f; 1 for an update that knows of none.

        A scheme that splits f + h gives it to prox_{tau h}, so that both halves take the same step.
        """
        return 1.0

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return g_t(x), to be subtracted from x."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, data, t)")


class PerStep(LearnedUpdate):
    """An update untied over t: g_t = updates[t], with ``max_steps = len(updates)``.

    Raises ValueError if two of the updates share a parameter: that is a tied update in disguise. Pass the bare update
    to the solver if that is meant.
    """

    def __init__(self, updates: Iterable[LearnedUpdate]) -> None:
        super().__init__()
        self.updates = nn.ModuleList(updates)
        self.max_steps = len(self.updates)
        if not self.max_steps:
            raise ValueError("PerStep needs at least one update")
        owner: dict[int, int] = {}
        for t, update in enumerate(self.updates):
            for name, parameter in update.named_parameters():
                # Meta and empty parameters have no storage: there the object itself tells.
                first = owner.setdefault(parameter.data_ptr() or id(parameter), t)
                if first != t:
                    raise ValueError(
                        f"updates {first} and {t} of PerStep share the parameter {name!r}: "
                        "build each update anew, or pass one bare update to tie them all"
                    )

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return updates[t](x, data, t)."""
        return cast(Tensor, self.updates[t](x, data, t))

    def tau(self, t: int) -> float | Tensor:
        """Return updates[t].tau(t)."""
        return cast(LearnedUpdate, self.updates[t]).tau(t)


class Scaled(LearnedUpdate):
    """alpha g_t: shortens (0 <= alpha < 1) or lengthens every step of an update; alpha = 0 stays at x0 exactly.

    ``alpha`` is a number, or a schedule t -> alpha_t, which makes the update untied.
    """

    def __init__(self, update: LearnedUpdate, alpha: float | Callable[[int], float]) -> None:
        super().__init__()
        self.update = update
        self.alpha = alpha
        self.max_steps = update.max_steps

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return alpha_t * update(x, data, t)."""
        return self._scale(t) * cast(Tensor, self.update(x, data, t))

    @property
    def tied(self) -> bool:
        """Whether the update that is scaled is tied, and its scale the same at every t."""
        return self.update.tied and not callable(self.alpha)

    def tau(self, t: int) -> float | Tensor:
        """Return alpha_t tau: that of a gradient step of alpha_t times the length."""
        return self._scale(t) * self.update.tau(t)

    def _scale(self, t: int) -> float:
        return self.alpha(t) if callable(self.alpha) else self.alpha


class Prolonged(LearnedUpdate):
    """An untied update that goes on past its N = ``max_steps``: its ``last`` ones again, in turn, without end.

    g'_t = g_{index(t)}, where index(t) = t for t < N and N - last + (t - N) mod last from there on. No parameter is
    added and none is copied. What it is good for: an operator put in at run time undoes a part of each step, and
    further steps make that good.

    Raises ValueError unless the update has a number of steps, and ``last`` is from 1 to that.
    """

    def __init__(self, update: LearnedUpdate, last: int = 1) -> None:
        super().__init__()
        if update.max_steps is None:
            raise ValueError(f"{type(update).__name__} is tied and goes on as it is: pass it to the solver bare")
        if not 1 <= last <= update.max_steps:
            raise ValueError(f"from 1 to {update.max_steps} of the last updates can go on, got {last}")
        self.update = update
        self.last = last
        self.trained = update.max_steps

    def index(self, t: int) -> int:
        """Return which of the N updates serves at t."""
        return t if t < self.trained else self.trained - self.last + (t - self.trained) % self.last

    @property
    def tied(self) -> bool:
        """Never: it has no end, but is not the same at every t."""
        return False

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return update(x, data, index(t))."""
        return cast(Tensor, self.update(x, data, self.index(t)))

    def tau(self, t: int) -> float | Tensor:
        """Return that of the update which serves at t."""
        return self.update.tau(self.index(t))


class ProximalStep(LearnedUpdate):
    """g_t(x) = x - prox_{tau_t f}(x): what is left of x is the proximal step itself.

    g_t / tau_t is the gradient of the Moreau envelope of f, so this is a gradient step too, and it is what the schemes
    take that know f by its proximal operator alone: Douglas-Rachford, ADMM, Chambolle-Pock, half-quadratic splitting.

    Args:
        prox: ``prox(v, data, tau)`` returns argmin_x f(x, data) + 1/(2 tau) ||x - v||^2; a module, if it has parameters
            to be learned. An :class:`Operator` serves as well, for an f that has no data.
        step_size: tau, a number, a tensor that broadcasts against x, or a Parameter to be learned; or a schedule, a
            function t -> tau_t, which makes the update untied.
    """

    def __init__(
        self, prox: Callable[[Tensor, Any, Any], Tensor], step_size: float | Tensor | Callable[[int], float | Tensor]
    ) -> None:
        super().__init__()
        self.prox = prox
        if isinstance(step_size, Tensor) and not isinstance(step_size, nn.Parameter):
            self.register_buffer("step_size", step_size, persistent=False)
        else:
            self.step_size = step_size

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return x - prox_{tau_t f(., data)}(x)."""
        tau = self.tau(t)
        return x - (self.prox(x, tau, t=t) if isinstance(self.prox, Operator) else self.prox(x, data, tau))

    @property
    def tied(self) -> bool:
        """Whether tau is the same at every t."""
        return isinstance(self.step_size, Tensor) or not callable(self.step_size)

    def tau(self, t: int) -> float | Tensor:
        """Return tau_t."""
        size = self.step_size
        return size(t) if callable(size) and not isinstance(size, Tensor) else size


class GradientStep(LearnedUpdate):
    """g_t(x) = step_size * grad_x f(x, data): the exact limit of a learned update, gradient descent on a loss f.

    For complex x the gradient is that of torch, 2 df/d(conj x). ``step_size`` is a number, a tensor that broadcasts
    against x, or a Parameter to be learned. It works under ``torch.no_grad`` and ``torch.func.vmap``; where gradients
    are enabled, its result is differentiable in x, data, the parameters of f and the step size (second derivatives of
    f).
    """

    def __init__(self, loss: Loss, step_size: float | Tensor) -> None:
        super().__init__()
        self.loss = loss
        if isinstance(step_size, Tensor) and not isinstance(step_size, nn.Parameter):
            self.register_buffer("step_size", step_size, persistent=False)
        else:
            self.step_size = step_size

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return step_size * grad_x loss(x, data)."""
        return self.step_size * self.gradient(x, data)

    def tau(self, t: int) -> float | Tensor:
        """Return the step size."""
        return self.step_size

    def gradient(self, x: Tensor, data: Any) -> Tensor:
        """Return grad_x loss(x, data)."""
        # torch.func.grad is the one that vmap understands, but it always builds the graph of the second derivative and
        # cannot be checkpointed: it is used only inside a transform.
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return cast(Tensor, torch.func.grad(lambda z: self.loss(z, data).sum())(x))
        outside = torch.is_grad_enabled()
        with torch.enable_grad():
            point = x if outside and x.requires_grad else x.detach().requires_grad_()
            value = self.loss(point, data).sum()
            if not value.requires_grad:
                raise RuntimeError(
                    f"{type(self.loss).__name__} is not differentiable in x here: let it depend on x without detach(), "
                    "and call the solver under torch.no_grad rather than torch.inference_mode"
                )
            # Where nothing but our own point could be differentiated, a graph of the result would only cost memory.
            keep = outside and (point is x or other_leaves(value, point))
            (gradient,) = torch.autograd.grad(value, point, create_graph=keep)
        return gradient


def other_leaves(value: Tensor, *points: Tensor) -> bool:
    """Return whether the graph of a value ends in a leaf that is none of ``points``."""
    seen, stack = set(), [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and not any(leaf is point for point in points):
            return True
        stack.extend(following for following, _ in node.next_functions)
    return False
