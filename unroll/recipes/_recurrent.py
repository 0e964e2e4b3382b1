"""Updates that remember: what g_t(x) alone cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from unroll._scheme import Scheme, State, Step
from unroll._update import LearnedUpdate


class RecurrentUpdate(LearnedUpdate):
    """An update with a memory, (x_{t+1}, m_{t+1}) = T_t(x_t, m_t), to be run by the scheme :class:`Recurrent`.

    A subclass defines ``advance``. The memory is a tuple of tensors whose first dimension is the batch: multipliers,
    dual variables, the state of a network. It starts as (), from which ``advance`` makes its own beginning.
    """

    @property
    def tied(self) -> bool:
        """False: the next iterate depends on more than x, so that x has no fixed point to differentiate."""
        return False

    def advance(self, x: Tensor, memory: State, data: Any, t: int) -> tuple[Tensor, State]:
        """Return x_{t+1}, of the shape of x, and m_{t+1}."""
        raise NotImplementedError(f"{type(self).__name__} must define advance(x, memory, data, t)")

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return g_t(x) = x - x_{t+1} with nothing remembered."""
        return x - self.advance(x, (), data, t)[0]


@dataclass(frozen=True)
class Recurrent(Scheme):
    """(x_{t+1}, m_{t+1}) = (P[x], m), where (x, m) = T_t(x_t, m_t) is what a :class:`RecurrentUpdate` has made.

    The state is (x_t, *m_t). A tolerance looks at x alone.

    Raises TypeError if the update is another one.
    """

    def step(self, state: State, at: Step) -> State:
        """Return (P[x_{t+1}], *m_{t+1})."""
        update = at.update
        if not isinstance(update, RecurrentUpdate):
            raise TypeError(f"Recurrent runs a RecurrentUpdate, got {type(update).__name__}: take another scheme")
        x, memory = update.advance(state[0], state[1:], at.data, at.t)
        return (at.backward(x, at.tau), *memory)

    def reached(self, state: Any) -> State:
        """Return (x_t,)."""
        return cast(State, state[:1])

    def start(self, state: Any) -> State:
        """Return (x_t,)."""
        return cast(State, state[:1])
