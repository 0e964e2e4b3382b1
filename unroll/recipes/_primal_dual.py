"""Learned primal-dual."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from unroll._scheme import State
from unroll._solver import Unrolled
from unroll.recipes._recurrent import Recurrent, RecurrentUpdate

Linear = Callable[[Tensor], Tensor]


class PrimalDualStep(RecurrentUpdate):
    """A step of :func:`learned_primal_dual`; the memory is (the other channels of x, u)."""

    def __init__(
        self, K: Linear, adjoint: Linear, dual: Iterable[nn.Module], primal: Iterable[nn.Module], memory: int
    ) -> None:
        super().__init__()
        self.K = K
        self.adjoint = adjoint
        self.dual = nn.ModuleList(dual)
        self.primal = nn.ModuleList(primal)
        self.memory = memory
        self.max_steps = len(self.dual)

    def advance(self, x: Tensor, memory: State, data: Tensor, t: int) -> tuple[Tensor, State]:
        """Return x_{t+1} and the memory; data is y."""
        own, seen = x.shape[1], data.shape[1]
        rest, u = memory or (
            torch.cat([x] * (self.memory - 1), 1),
            torch.cat([torch.zeros_like(data)] * self.memory, 1),
        )
        whole = torch.cat((x, rest), dim=1)
        u = u + self.dual[t](torch.cat((u, self.K(whole[:, own : 2 * own]), data), dim=1))
        whole = whole + self.primal[t](torch.cat((whole, self.adjoint(u[:, :seen])), dim=1))
        return whole[:, :own], (whole[:, own:], u)


def learned_primal_dual(
    K: Linear, adjoint: Linear, dual: Iterable[nn.Module], primal: Iterable[nn.Module], *, memory: int = 5
) -> Unrolled:
    """Networks in place of both proximal operators of a primal-dual scheme, with channels to remember by.

        u <- u + D_t([u, K x^(2), y]),    x <- x + P_t([x, K* u^(1)])

    x has ``memory`` blocks of the channels of the signal, x^(1), x^(2), ..., all x_0 at the start, and u as many of the
    measurement's, 0 at the start; the iterate is x^(1). Chambolle and Pock's scheme is one of these, with memory 2.

    Called as ``solver(x0, y)``; x0 (B, C, ...) and y (B, D, ...), for vectors (B, 1, n) and (B, 1, m).

    Args:
        K, adjoint: the linear operator, (B, C, ...) -> (B, D, ...), and K*; modules, if they have state.
        dual: D_t for each step, modules from (memory + 2) D channels to memory D.
        primal: P_t for each step, from (memory + 1) C channels to memory C.
        memory: at least 2. The paper has 5.

    Source: J. Adler and O. Oktem, "Learned primal-dual reconstruction", IEEE Transactions on Medical Imaging, 2018.
    """
    step = PrimalDualStep(K, adjoint, dual, primal, memory)
    if len(step.dual) != len(step.primal) or not len(step.dual):
        raise ValueError(f"dual and primal need one network for each step, got {len(step.dual)} and {len(step.primal)}")
    if memory < 2:
        raise ValueError(f"the memory must be at least 2, got {memory}")
    return Unrolled(step, steps=len(step.dual), scheme=Recurrent())
