"""Accelerations: what goes around a scheme and sets out from a better point than where the last step has led."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unroll._scheme import ForwardBackward, Scheme, State, Step, rows, unrows


class Course(NamedTuple):
    """The state of an accelerated scheme.

    ``reached`` is z_t, where the last step has led, ``start`` is y_t, where the next one sets out from; ``memory`` is
    the acceleration's own.
    """

    reached: State
    start: State
    memory: Any


class Accelerated(Scheme):
    """z_{t+1} = T(y_t), y_{t+1} extrapolated from what was seen, for a scheme of the map T; y_0 = z_0.

    The iterate is that of z: it has been through P, as without acceleration. The fixed points are those of T.
    """

    scheme: Scheme

    def init(self, x0: Tensor, data: Any = None) -> Course:
        """Return the start of the scheme, with nothing remembered."""
        if self.scheme.plain is not self.scheme:
            raise TypeError(f"{type(self).__name__} goes around a plain scheme, not {type(self.scheme).__name__}")
        z = self.scheme.init(x0, data)
        return Course(z, z, None)

    def step(self, state: Course, at: Step) -> Course:
        """Return the next state: a step of the scheme, and an extrapolation."""
        z = self.scheme.step(state.start, at)
        start, memory = self.extrapolate(state, z)
        return Course(z, start, memory)

    @abstractmethod
    def extrapolate(self, state: Course, z: State) -> tuple[State, Any]:
        """Return y_{t+1} and the memory, from the last state and z_{t+1} = T(y_t)."""

    def iterate(self, state: Course) -> Tensor:
        """Return the x of z_t."""
        return self.scheme.iterate(state.reached)

    @property
    def plain(self) -> Scheme:
        """The scheme inside."""
        return self.scheme

    def reached(self, state: Course) -> State:
        """Return z_t."""
        return state.reached

    def start(self, state: Course) -> State:
        """Return y_t."""
        return state.start


@dataclass(frozen=True)
class Nesterov(Accelerated):
    """y_{t+1} = z_{t+1} + (k_t - 1) / k_{t+1} (z_{t+1} - z_t), k_0 = 1, k_{t+1} = (1 + sqrt(1 + 4 k_t^2)) / 2.

    Around forward-backward with ``tau=None``, FISTA: f + h falls as 1 / t^2, if the step is at most 1 / L.

    Args:
        scheme: what to accelerate; by default ``ForwardBackward()``.
        restart: forget the momentum (k = 1) of a sample where it points back, <y_t - z_{t+1}, z_{t+1} - z_t> > 0, which
            needs no value of f + h and gives back linear convergence where the function is strongly convex.

    Sources: A. Beck and M. Teboulle, "A fast iterative shrinkage-thresholding algorithm", 2009; B. O'Donoghue and
    E. Candes, "Adaptive restart for accelerated gradient schemes", 2015 (the gradient scheme).
    """

    scheme: Scheme = field(default_factory=ForwardBackward)
    restart: bool = False

    def extrapolate(self, state: Course, z: State) -> tuple[State, Any]:
        """Return z + beta (z - z_t) and k_{t+1}."""
        moved = tuple(new - old for new, old in zip(z, state.reached, strict=True))
        if not self.restart:
            k = 1.0 if state.memory is None else state.memory
            following = (1 + (1 + 4 * k * k) ** 0.5) / 2
            beta = (k - 1) / following
            return tuple(new + beta * d for new, d in zip(z, moved, strict=True)), following
        back = rows(tuple(start - new for start, new in zip(state.start, z, strict=True)))
        wrong = (back * rows(moved)).sum(1) > 0
        k = torch.ones_like(back[:, 0]) if state.memory is None else state.memory
        following = (1 + (1 + 4 * k * k).sqrt()) / 2
        betas = torch.where(wrong, 0, (k - 1) / following)
        start = tuple(new + _over(betas, new) * d for new, d in zip(z, moved, strict=True))
        return start, torch.where(wrong, 1, following)


@dataclass(frozen=True)
class Anderson(Accelerated):
    """Anderson acceleration: y_{t+1} = sum_i a_i T(y_i), the a_i of sum 1 that minimise || sum_i a_i (T(y_i) - y_i) ||.

    The sum goes over the last ``memory`` + 1 points; it is GMRES where T is linear. For each sample of the batch by
    itself. Memory: 2 (``memory`` + 1) states. Cost: a (memory x memory) system for each sample and step.

    Args:
        scheme: what to accelerate; by default ``ForwardBackward()``.
        memory: how many differences are kept, at least 1.
        restart: forget the earlier points of a sample where its residual has grown, which cannot happen while T is
            linear and non-expansive. Without it the iterates may wander for ever where T has kinks.
        mixing: how much of T(y_i) is in the sum, the rest being y_i; between 0 (excluded) and 1.
        ridge: what is added to the diagonal of the system, which is scaled to be 1, beyond what rounding asks for.

    Source: D. Anderson, 1965; H. Walker and P. Ni, "Anderson acceleration for fixed-point iterations", 2011.
    """

    scheme: Scheme = field(default_factory=ForwardBackward)
    memory: int = 5
    restart: bool = True
    mixing: float = 1.0
    ridge: float = 0.0

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"the memory must be at least 1, got {self.memory}")
        if not 0 < self.mixing <= 1:
            raise ValueError(f"mixing must lie between 0 (excluded) and 1, got {self.mixing}")

    def extrapolate(self, state: Course, z: State) -> tuple[State, Any]:
        """Return the point of the smallest residual, and the last points and residuals."""
        image = rows(z)
        residual = image - rows(state.start)
        seen = state.memory or ()
        if self.restart and seen:
            worse = residual.square().sum(1, keepdim=True) > seen[-1][1].square().sum(1, keepdim=True)
            seen = tuple((torch.where(worse, image, i), torch.where(worse, residual, r)) for i, r in seen)
        seen = (*seen, (image, residual))[-self.memory - 1 :]
        if len(seen) == 1:
            return (z if self.mixing == 1 else unrows(image - (1 - self.mixing) * residual, z)), seen
        images, residuals = (torch.stack(column, dim=1).diff(dim=1) for column in zip(*seen, strict=True))
        # A difference of 0 (two equal residuals) is left as it is: its coefficient is then 0.
        square = residuals.square().sum(-1, keepdim=True)
        length = torch.where(square > 0, square, 1).sqrt()
        images, residuals = images / length, residuals / length
        gram = residuals @ residuals.mT
        ridge = self.ridge + 10 * torch.finfo(gram.dtype).eps
        gram = gram + ridge * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        # solve_ex does not wait for the device to learn whether it worked.
        weights = torch.linalg.solve_ex(gram, residuals @ residual[..., None]).result.mT
        best = image - (weights @ images).squeeze(1)
        if self.mixing != 1:
            best = best - (1 - self.mixing) * (residual - (weights @ residuals).squeeze(1))
        return unrows(best, z), seen


def _over(values: Tensor, like: Tensor) -> Tensor:
    """Return one value for each sample in a shape that broadcasts against a tensor of the batch."""
    return values.reshape(values.shape[:1] + (1,) * (like.ndim - 1)) if len(values) > 1 else values.reshape(())
