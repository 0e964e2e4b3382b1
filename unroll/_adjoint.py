"""How to differentiate through the iterations: an argument of the call, not a class of solver."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from unroll._iteration import Iteration


class Adjoint(ABC):
    """Runs the iterations in a way that fixes what their backward pass costs, and what it is the gradient of."""

    @abstractmethod
    def __call__(self, iteration: Iteration, state: Any, steps: int) -> Tensor:
        """Return the iterate after at most ``steps`` steps, from the state before the first."""


@dataclass(frozen=True)
class Backprop(Adjoint):
    """Ordinary backpropagation: memory for the intermediates of all N steps, no recomputation."""

    def __call__(self, iteration: Iteration, state: Any, steps: int) -> Tensor:
        """Run the plain loop."""
        return iteration.iterate(run(iteration, state, steps))


@dataclass(frozen=True)
class Checkpointed(Adjoint):
    """Keeps the state of every k-th step only and recomputes the k steps between two in the backward pass.

    The gradients equal those of :class:`Backprop`, at the cost of one more forward pass. Memory: N / k states, and the
    intermediates of k steps.

    Args:
        every: k; None is ceil(sqrt(N)), for memory as the square root of N, and 1 holds N states and one step.

    Source: A. Griewank, A. Walther, "Algorithm 799: revolve", 2000, with one level; T. Chen et al., "Training deep nets
    with sublinear memory cost", 2016.
    """

    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")

    def __call__(self, iteration: Iteration, state: Any, steps: int) -> Tensor:
        """Run the loop in segments, each under torch.utils.checkpoint."""
        every = self.every or max(1, math.isqrt(max(steps - 1, 0)) + 1)
        iteration.begin(state)
        iteration.visit(state, 0)
        for first in range(0, steps, every):
            segment = _Segment(iteration, first, min(every, steps - first))
            state, seen = checkpoint(segment, state, use_reentrant=False)
            for t, other in enumerate(seen, first + 1):
                iteration.visit(other, t)
            if segment.done:
                break
        return iteration.iterate(state)


@dataclass(frozen=True)
class Truncated(Adjoint):
    """Backpropagation through the last k steps alone: memory and time of k steps, whatever N.

    An approximation: what the earlier steps owe to the parameters and the data is left out, and with k < N the gradient
    with respect to x0 is 0 (there is no path to it). At a fixed point of a contraction of factor q the error of the
    gradient is of the order q^k. With a tolerance, whose last step is not known beforehand, k states are kept and the
    k steps taken twice.

    Source: A. Shaban et al., "Truncated back-propagation for bilevel optimization", 2019.
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"the last steps to go back through must be at least 1, got {self.steps}")

    def __call__(self, iteration: Iteration, state: Any, steps: int) -> Tensor:
        """Run all but the last k steps without a graph."""
        state, last = run_untracked(iteration, state, steps, self.steps)
        for t in last:
            state = iteration.step(state, t)
            iteration.visit(state, t + 1)
        return iteration.iterate(state)


def run(iteration: Iteration, state: Any, steps: int) -> Any:
    """Run the plain loop and return its last state."""
    iteration.begin(state)
    iteration.visit(state, 0)
    for t in range(steps):
        before, state = state, iteration.step(state, t)
        iteration.visit(state, t + 1)
        if iteration.done(before, state, t + 1):
            break
    return state


def run_untracked(iteration: Iteration, state: Any, steps: int, keep: int) -> tuple[Any, range]:
    """Run without a graph, and return the state before the last ``keep`` steps and the numbers of these.

    What follows that state is not visited yet. Where nothing looks at the states, those last steps are not even taken.
    """
    iteration.begin(state)
    iteration.visit(state, 0)
    kept, first = [state], 0
    held = keep if iteration.watched else 0
    for t in range(steps if iteration.watched else max(steps - keep, 0)):
        with torch.no_grad():
            kept.append(iteration.step(kept[-1], t))
        if len(kept) > held + 1:
            del kept[0]
            first += 1
            iteration.visit(kept[0], first)
        if iteration.done(kept[-2] if held else None, kept[-1], t + 1):
            break
    return kept[0], range(first, first + len(kept) - 1 if iteration.watched else steps)


class _Segment:
    """Some steps in a row, which a checkpoint calls once to see how far they go and again to recompute as many."""

    def __init__(self, iteration: Iteration, first: int, length: int) -> None:
        self.iteration = iteration
        self.first = first
        self.length = length
        self.done = False
        self.ran = False

    def __call__(self, state: Any) -> tuple[Any, list[Any]]:
        """Return the last state, and all of them for a probe to see."""
        seen = []
        for t in range(self.first, self.first + self.length):
            with _saving_at_the_end():
                before, state = state, self.iteration.step(state, t)
            if self.iteration.probe is not None:
                seen.append(state)
            if not self.ran and self.iteration.done(before, state, t + 1):
                self.done, self.length = True, t + 1 - self.first
                break
        self.ran = True
        return state, seen


class _Keep(torch.autograd.Function):
    """A node that saves a tensor, under the hooks of whoever is around."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, token: Tensor) -> Tensor:
        ctx.save_for_backward(tensor)
        return token.clone()


@contextmanager
def _saving_at_the_end() -> Iterator[None]:
    """Hold what the steps inside save, and hand it over to the checkpoint around at the end.

    A step that takes a gradient of its own, as :class:`GradientStep` does, reads what it has just saved. A checkpoint
    would recompute its whole segment for that, once for each step of it.
    """
    if not torch.is_grad_enabled():
        yield
        return
    boxes: list[list[Any]] = []

    def pack(tensor: Tensor) -> list[Any]:
        boxes.append([tensor.detach()])
        return boxes[-1]

    def unpack(box: list[Any]) -> Tensor:
        held: Any = box[0]
        return held if isinstance(held, Tensor) else held.saved_tensors[0]

    with saved_tensors_hooks(pack, unpack):
        yield
    token = torch.empty(0, requires_grad=True)
    for box in boxes:
        box[0] = _Keep.apply(box[0], token).grad_fn
