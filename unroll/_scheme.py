"""Schemes: what an iteration makes of the update and of the projector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from unroll._operator import Operator
from unroll._update import GradientStep, LearnedUpdate

State = tuple[Tensor, ...]


class Step:
    """The two halves of step t, with the arguments of the call filled in: all that a scheme has to compose.

    Attributes:
        t: the number of the step, from 0.
        update, projector, data: as the solver and the call have them.
    """

    __slots__ = ("data", "projector", "t", "update")

    def __init__(self, update: LearnedUpdate, projector: Operator | None, data: Any, t: int) -> None:
        self.update = update
        self.projector = projector
        self.data = data
        self.t = t

    def forward(self, x: Tensor) -> Tensor:
        """Return x - g_t(x): a gradient step of f, its proximal step, or what was learned in place of either."""
        return x - _kept(self.update(x, self.data, self.t), x, self.update)

    def backward(self, v: Tensor, tau: float | Tensor = 1.0) -> Tensor:
        """Return P(v), where P is prox_{tau h}; v itself if there is no projector."""
        if self.projector is None:
            return v
        y = _kept(self.projector(v, tau, t=self.t), v, self.projector)
        if y.dtype != v.dtype:
            raise TypeError(
                f"{type(self.projector).__name__} returned {y.dtype} for an iterate of {v.dtype}: "
                "it must keep the dtype"
            )
        return y

    @property
    def tau(self) -> float | Tensor:
        """The step that the update takes on f."""
        return self.update.tau(self.t)


class Scheme(ABC):
    """How one step makes of a state the next one; the state is a tuple of tensors, the first of the shape of x.

    A scheme is three methods, of which ``init`` and ``iterate`` have defaults for the state (x,). It holds no
    parameters: those are in the update and in the projector. The accelerations (:class:`Accelerated`) go around any
    scheme and keep more than such a tuple; ``plain``, ``reached`` and ``start`` say what of it is the scheme's own.
    """

    def init(self, x0: Tensor, data: Any = None) -> Any:
        """Return the state that the iterations start from."""
        return (x0,)

    @abstractmethod
    def step(self, state: Any, at: Step) -> Any:
        """Return the next state."""

    def iterate(self, state: Any) -> Tensor:
        """Return the x of a state."""
        return cast(Tensor, state[0])

    @property
    def plain(self) -> Scheme:
        """The scheme without its acceleration, a map of tuples of tensors that has the same fixed points."""
        return self

    def reached(self, state: Any) -> State:
        """Return the state of the plain scheme that the last step has led to."""
        return cast(State, state)

    def start(self, state: Any) -> State:
        """Return the state of the plain scheme that the next step sets out from: z - T(z) is its residual."""
        return cast(State, state)


@dataclass(frozen=True)
class ForwardBackward(Scheme):
    """x_{t+1} = P[x_t - g_t(x_t)]: the default; proximal gradient descent where g_t is a gradient step of f.

    With :class:`GradientStep` of step tau and ``tau=None`` it minimises f + h, P = prox_{tau h}, for tau < 2 / L, L the
    Lipschitz constant of grad f.

    Args:
        tau: the tau that P is called with. By default 1, whatever the step of the update: a threshold is then that of
            one step, as in learned solvers. None takes the update's own, ``update.tau(t)``: the weight of h then means
            the same at every step size.

    Source: P. Combettes and V. Wajs, "Signal recovery by proximal forward-backward splitting", 2005.
    """

    tau: float | None = 1.0

    def step(self, state: State, at: Step) -> State:
        """Return (P[x - g_t(x)],)."""
        return (at.backward(at.forward(state[0]), at.tau if self.tau is None else self.tau),)


@dataclass(frozen=True)
class Backtracking(Scheme):
    """Forward-backward with a step that is searched for: x_{t+1} = prox_{tau h}(x_t - tau grad f(x_t)).

    Every step begins with the step size of the update and multiplies it by ``shrink``, for each sample of the batch by
    itself, until f(x_{t+1}) <= f(x_t) + <grad f(x_t), d> + ||d||^2 / (2 tau), d = x_{t+1} - x_t. So f + h does not
    increase, whatever the step size to begin with.

    The update must be a :class:`GradientStep`. P is called with a tensor tau of shape (B, 1, ..., 1). The search is not
    differentiated: gradients are those at the step sizes found. Cost: one value of f and one P for every trial, and one
    synchronisation with the host.

    Raises:
        TypeError: the update has no loss to search on.
        ValueError: ``max_trials`` step sizes in a row were too long.

    Source: A. Beck and M. Teboulle, "A fast iterative shrinkage-thresholding algorithm", 2009, section 3.
    """

    shrink: float = 0.5
    max_trials: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.shrink < 1:
            raise ValueError(f"shrink must lie between 0 and 1, got {self.shrink}")

    def step(self, state: State, at: Step) -> State:
        """Return (prox_{tau h}(x - tau grad f(x)),) for the first tau that is short enough."""
        x, update = state[0], at.update
        if not isinstance(update, GradientStep):
            raise TypeError(
                f"Backtracking searches along a gradient and needs a GradientStep, got {type(update).__name__}"
            )
        gradient = update.gradient(x, at.data)
        with torch.no_grad():
            scale = self._search(x, gradient, at, update)
        tau = scale * update.step_size
        return (at.backward(x - tau * gradient, tau),)

    def _search(self, x: Tensor, gradient: Tensor, at: Step, update: GradientStep) -> Tensor:
        value = update.loss(x, at.data)
        within = tuple(range(value.ndim, x.ndim))
        scale = torch.ones_like(value).reshape(value.shape + (1,) * len(within))
        # What rounding may add to a difference of two values of f.
        slack = 10 * torch.finfo(value.dtype).eps * value.abs()
        for _ in range(self.max_trials):
            tau = scale * update.step_size
            y = at.backward(x - tau * gradient, tau)
            d = y - x
            model = (gradient.conj() * d).real + d.abs().square() / (2 * tau)
            fits = update.loss(y, at.data) <= value + (model.sum(within) if within else model) + slack
            if bool(fits.all()):
                return scale
            scale = torch.where(fits.reshape(scale.shape), scale, self.shrink * scale)
        raise ValueError(
            f"no step size of {self.max_trials} was short enough in step {at.t}: is the loss finite, and its gradient?"
        )


def _kept(y: Tensor, x: Tensor, source: nn.Module) -> Tensor:
    if y.shape != x.shape:
        raise ValueError(
            f"{type(source).__name__} returned the shape {tuple(y.shape)} for an iterate of shape {tuple(x.shape)}: "
            "it must keep the shape"
        )
    if y.device != x.device:
        raise ValueError(
            f"{type(source).__name__} returned a tensor on {y.device} for an iterate on {x.device}: "
            "move the solver or the start"
        )
    return y


def rows(state: State) -> Tensor:
    """Return a state as one real row for each sample, (B, n).

    The first dimension of the first tensor is the batch, if it has two or more; else the state is one sample.
    """
    samples = state[0].shape[0] if state[0].ndim > 1 else 1
    real = [torch.view_as_real(part) if part.is_complex() else part for part in state]
    flat = [part.reshape(samples, -1) for part in real]
    return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)


def unrows(flat: Tensor, like: State) -> State:
    """Return the state of which ``rows`` made ``flat``."""
    lengths = [(2 if part.is_complex() else 1) * part.numel() // flat.shape[0] for part in like]
    parts = []
    for columns, part in zip(torch.split(flat, lengths, dim=1), like, strict=True):
        if part.is_complex():
            parts.append(torch.view_as_complex(columns.reshape(*part.shape, 2).contiguous()).to(part.dtype))
        else:
            parts.append(columns.reshape(part.shape).to(part.dtype))
    return tuple(parts)
