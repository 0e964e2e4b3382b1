"""Solvers of y = K x, for any linear K, with networks where the proximal operators were."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from unroll._acceleration import Anderson
from unroll._scheme import Scheme
from unroll._solver import Unrolled
from unroll._splitting import ADMM
from unroll._update import LearnedUpdate, PerStep, ProximalStep

Linear = Callable[[Tensor], Tensor]


class NetworkStep(LearnedUpdate):
    """x - g(x) = N(x - gamma K*(K x - y)), gamma a Parameter, N a network of the shape of x; None is the identity."""

    def __init__(self, K: Linear, adjoint: Linear, network: nn.Module | None, step_size: float) -> None:
        super().__init__()
        self.K = K
        self.adjoint = adjoint
        self.network = network
        self.step_size = nn.Parameter(torch.tensor(float(step_size)))

    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        """Return g(x); data is y."""
        move = self.step_size * self.adjoint(self.K(x) - data)
        return move if self.network is None else x - cast(Tensor, self.network(x - move))


def learned_projected_gradient(
    K: Linear, adjoint: Linear, networks: Iterable[nn.Module | None], step_size: float
) -> Unrolled:
    """x_{t+1} = P[N_t(x_t - gamma_t K*(K x_t - y))]: gradient steps of learned length, N_t in place of the projection.

    Called as ``solver(x0, y)``; a P given at the call comes after N_t. With networks None only gamma_t is learned, and
    it begins as projected gradient descent onto the set of P. N_t that begins as the identity trains best.

    Args:
        K, adjoint: the linear operator and K*, <K x, u> = <x, K* u>; modules, if they have state.
        networks: N_0, N_1, ..., one for each step: modules of the shape of x, or None for the identity.
        step_size: gamma at the start, for every step; below 2 / ||K||^2.

    Source: M. Mardani et al., "Neural proximal gradient descent for compressive imaging", NeurIPS 2018; H. Gupta et
    al., "CNN-based projected gradient descent for consistent CT image reconstruction", 2018.
    """
    updates = [NetworkStep(K, adjoint, network, step_size) for network in networks]
    return Unrolled(PerStep(updates), steps=len(updates))


def deep_equilibrium(
    K: Linear,
    adjoint: Linear,
    network: nn.Module,
    step_size: float,
    *,
    steps: int = 100,
    scheme: Scheme | None = None,
) -> Unrolled:
    """The fixed point x = N(x - gamma K*(K x - y)), by at most ``steps`` tied steps: memory and gradient know no depth.

    Called as ``solver(x0, y, until=unroll.Tolerance(), adjoint=unroll.Implicit())``. The map has one fixed point if it
    is a contraction, as where gamma < 2 / ||K||^2, K is injective and N is 1-Lipschitz. Arguments are those of
    :func:`learned_projected_gradient`, with one N and one gamma, both learned.

    Args:
        scheme: what finds the fixed point; None is Anderson acceleration.

    Source: D. Gilton, G. Ongie and R. Willett, "Deep equilibrium architectures for inverse problems in imaging", 2021;
    S. Bai, J. Kolter and V. Koltun, "Deep equilibrium models", NeurIPS 2019.
    """
    update = NetworkStep(K, adjoint, network, step_size)
    return Unrolled(update, steps=steps, scheme=Anderson() if scheme is None else scheme)


def plug_and_play(
    prox: Callable[[Tensor, Any, Any], Tensor], *, tau: float = 1.0, steps: int = 50, scheme: Scheme | None = None
) -> Unrolled:
    """ADMM, or another scheme, for f + h where a denoiser stands for h; no parameters but those of the denoiser.

    Called as ``solver(x0, data, projector=unroll.penalties.Denoiser(network))``: that is all that plug-and-play asks.

    Args:
        prox: prox(v, data, tau) = argmin_x f(x, data) + 1/(2 tau) ||x - v||^2, as :class:`LeastSquaresProx` is.
        tau: > 0; the denoiser is handed tau for its level of noise.
        scheme: one that knows f by its prox; None is :class:`unroll.ADMM`.

    Source: S. Venkatakrishnan, C. Bouman and B. Wohlberg, "Plug-and-play priors for model based reconstruction", 2013.
    """
    return Unrolled(ProximalStep(prox, tau), steps=steps, scheme=ADMM() if scheme is None else scheme)
