"""Learned ADMM, and the proximal operator of least squares that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from unroll._proximal import hold
from unroll._scheme import State, Step
from unroll._solver import Unrolled
from unroll._splitting import ADMM
from unroll._update import LearnedUpdate
from unroll.recipes._shrinkage import shrink

Prox = Callable[[Tensor, Any, Any], Tensor]


class LeastSquaresProx(nn.Module):
    """prox(v, y, tau) = argmin_x 1/2 ||A x - y||^2 + 1/(2 tau) ||x - v||^2, for rows v (B, n) and y (B, m), A real.

    For :class:`unroll.ProximalStep` and all recipes that take a prox. A is decomposed once, A = U S V^T, so that tau
    may change at every call and be learned: x = v + V tau S / (1 + tau S^2) (U^T y - S V^T v). Not in the state dict.
    Cost: O(min(m, n) (m + n)) for each row.
    """

    left: Tensor
    values: Tensor
    right: Tensor

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        if a.ndim != 2 or not a.is_floating_point():
            raise ValueError(f"A must be a real matrix (m, n), got {a.dtype} of the shape {tuple(a.shape)}")
        left, values, right = torch.linalg.svd(a, full_matrices=False)
        hold(self, left=left, values=values, right=right.mT)

    def forward(self, v: Tensor, data: Tensor, tau: float | Tensor) -> Tensor:
        """Return the prox at v; data is y, tau a number or of shape (B, 1)."""
        gain = tau * self.values / (1 + tau * self.values.square())
        return v + (gain * (data @ self.left - self.values * (v @ self.right))) @ self.right.mT


class LearnedProximalStep(LearnedUpdate):
    """g_t(x) = x - prox_{tau_t f}(x), with what :class:`LearnedADMM` takes besides: theta_t, relaxation_t.

    tau = exp(log_tau) and theta = exp(log_threshold) stay positive.
    """

    def __init__(self, prox: Prox, steps: int, tau: float, threshold: float | None, relaxation: float) -> None:
        super().__init__()
        self.prox = prox
        self.log_tau = nn.Parameter(torch.full((steps,), math.log(tau)))
        self.log_threshold = None if threshold is None else nn.Parameter(torch.full((steps,), math.log(threshold)))
        self.relaxation = nn.Parameter(torch.full((steps,), float(relaxation)))
        self.max_steps = steps

    def tau(self, t: int) -> Tensor:
        """Return tau_t."""
        return self.log_tau[t].exp()

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        """Return g_t(x)."""
        return x - self.prox(x, data, self.tau(t))

    def shrunk(self, v: Tensor, t: int) -> Tensor:
        """Return eta_{theta_t}(v), or v if there are no thresholds."""
        return v if self.log_threshold is None else shrink(v, self.log_threshold[t].exp(), None, t)


@dataclass(frozen=True)
class LearnedADMM(ADMM):
    """ADMM with the relaxation and the shrinkage of the update, before P."""

    def step(self, state: State, at: Step) -> State:
        """Return (x_{t+1}, w_{t+1})."""
        x, w = state
        update = cast(LearnedProximalStep, at.update)
        alpha = update.relaxation[at.t]
        v = alpha * at.forward(x - w) + (1 - alpha) * x
        x = at.backward(update.shrunk(v + w, at.t), at.tau)
        return x, w + v - x


def learned_admm(
    prox: Prox, steps: int, threshold: float | None = 0.1, *, tau: float = 1.0, relaxation: float = 1.0
) -> Unrolled:
    """ADMM for f + h, u = x, whose penalty, threshold and relaxation are learned for each step.

        u = prox_{tau_t f}(x_t - w_t),    v = alpha_t u + (1 - alpha_t) x_t,
        x_{t+1} = P[eta_{theta_t}(v + w_t)],    w_{t+1} = w_t + v - x_{t+1}

    3 steps parameters, positive by logarithms but for alpha; it begins as :class:`unroll.ADMM` with h = threshold / tau
    ||x||_1. Called as ``solver(x0, data)``; x real, of any shape.

    Args:
        prox: prox(v, data, tau) = argmin_x f(x, data) + 1/(2 tau) ||x - v||^2, as :class:`LeastSquaresProx` is; a
            module, if it has parameters.
        threshold: theta_0 > 0; None leaves the shrinkage out, for a P given at the call: a set, a denoiser.
        tau: tau_0 = 1 / rho > 0.
        relaxation: alpha_0.

    Source: Y. Yang, J. Sun, H. Li and Z. Xu, "Deep ADMM-Net for compressive sensing MRI", NeurIPS 2016, without its
    learned transforms: put those into P.
    """
    for name, value in (("tau", tau), ("threshold", threshold)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, for its logarithm is learned; got {value}")
    return Unrolled(LearnedProximalStep(prox, steps, tau, threshold, relaxation), steps=steps, scheme=LearnedADMM())
