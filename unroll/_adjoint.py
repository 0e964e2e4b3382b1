"""How to differentiate through the iterations: an argument of the call, not a class of solver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint


class Adjoint(ABC):
    """Runs the iterations x_{t+1} = step(x_t, t) in a way that fixes what their backward pass costs."""

    @abstractmethod
    def __call__(
        self, step: Callable[[Tensor, int], Tensor], x0: Tensor, steps: int, visit: Callable[[Tensor, int], None]
    ) -> Tensor:
        """Return x_N for N = ``steps``, calling ``visit(x_t, t)`` for t = 0..N."""


class Backprop(Adjoint):
    """Ordinary backpropagation: memory for the intermediates of all N steps, no recomputation."""

    def __call__(
        self, step: Callable[[Tensor, int], Tensor], x0: Tensor, steps: int, visit: Callable[[Tensor, int], None]
    ) -> Tensor:
        """Run the plain loop."""
        x = x0
        visit(x, 0)
        for t in range(steps):
            x = step(x, t)
            visit(x, t + 1)
        return x


class Checkpointed(Adjoint):
    """Keeps only the N iterates and recomputes each step in the backward pass: the memory of one step.

    It costs one more forward pass; two where the step is a :class:`GradientStep`, which takes a gradient of its own.

    The gradients equal those of :class:`Backprop`. Source: A. Griewank, A. Walther, "Algorithm 799: revolve", 2000, in
    its simplest form.
    """

    def __call__(
        self, step: Callable[[Tensor, int], Tensor], x0: Tensor, steps: int, visit: Callable[[Tensor, int], None]
    ) -> Tensor:
        """Run the loop with every step under torch.utils.checkpoint."""

        def checkpointed(x: Tensor, t: int) -> Tensor:
            return checkpoint(step, x, t, use_reentrant=False)

        return Backprop()(checkpointed, x0, steps, visit)
