"""Updates g_t: learned, exact, untied over the iterations, scaled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from unroll._loss import Loss


class LearnedUpdate(nn.Module):
    """The update g_t of the iteration x <- P[x - g_t(x)]; ``forward(x, data, t)`` returns a tensor of the shape of x.

    A bare update is tied: the same parameters serve at every t. One whose parameters are indexed by t sets
    ``max_steps``, the number of iterations it has parameters for; the solver refuses to run past it.
    """

    max_steps: int | None = None

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


class Scaled(LearnedUpdate):
    """alpha g_t: shortens (0 <= alpha < 1) or lengthens every step of an update; alpha = 0 stays at x0 exactly."""

    def __init__(self, update: LearnedUpdate, alpha: float) -> None:
        super().__init__()
        self.update = update
        self.alpha = alpha
        self.max_steps = update.max_steps

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return alpha * update(x, data, t)."""
        return self.alpha * cast(Tensor, self.update(x, data, t))


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
        return self.step_size * self._gradient(x, data)

    def _gradient(self, x: Tensor, data: Any) -> Tensor:
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
            keep = outside and (point is x or _other_leaves(value, point))
            (gradient,) = torch.autograd.grad(value, point, create_graph=keep)
        return gradient


def _other_leaves(value: Tensor, point: Tensor) -> bool:
    """Return whether the graph of a value ends in a leaf that is not ``point``."""
    seen, stack = set(), [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf is not point:
            return True
        stack.extend(following for following, _ in node.next_functions)
    return False
