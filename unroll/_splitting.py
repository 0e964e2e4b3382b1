"""Schemes that know both functions by their proximal operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unroll._scheme import Scheme, State, Step


@dataclass(frozen=True)
class HalfQuadraticSplitting(Scheme):
    """x_{t+1} = prox_{tau_t h}(prox_{tau_t f}(x_t)): half-quadratic splitting, for f + h.

    It alternates over the two variables of f(u) + h(x) + 1/(2 tau) ||u - x||^2 and, at a fixed tau, ends at the minimum
    of that, not of f + h. That one is reached with a schedule tau_t that goes to 0 while its sum does not converge:
    ``ProximalStep(prox, lambda t: 1 / (t + 1))``, or :class:`PerStep`. The update is to be a :class:`ProximalStep`; its
    tau is handed to P.

    Source: D. Geman and C. Yang, "Nonlinear image recovery with half-quadratic regularization", 1995.
    """

    def step(self, state: State, at: Step) -> State:
        """Return (P(x - g_t(x), tau_t),)."""
        return (at.backward(at.forward(state[0]), at.tau),)


@dataclass(frozen=True)
class DouglasRachford(Scheme):
    """Douglas-Rachford splitting of f + h, for any tau > 0; the update is to be a :class:`ProximalStep` of f.

        u = prox_{tau f}(z_t),    x_{t+1} = prox_{tau h}(2 u - z_t),    z_{t+1} = z_t + relaxation (x_{t+1} - u)

    The state is (x_t, z_t), z_0 = x_0; every iterate from the first has been through P.

    Args:
        relaxation: between 0 and 2; 1 is the plain scheme.

    Source: P.-L. Lions and B. Mercier, "Splitting algorithms for the sum of two nonlinear operators", 1979; J. Eckstein
    and D. Bertsekas, "On the Douglas-Rachford splitting method", 1992.
    """

    relaxation: float = 1.0

    def __post_init__(self) -> None:
        _check_relaxation(self.relaxation)

    def init(self, x0: Tensor, data: Any = None) -> State:
        """Return (x_0, x_0)."""
        return (x0, x0)

    def step(self, state: State, at: Step) -> State:
        """Return (x_{t+1}, z_{t+1})."""
        z = state[1]
        u = at.forward(z)
        x = at.backward(2 * u - z, at.tau)
        return x, z + self.relaxation * (x - u)


@dataclass(frozen=True)
class ADMM(Scheme):
    """The alternating direction method of multipliers for f(u) + h(x), u = x; the update a :class:`ProximalStep` of f.

        u = prox_{tau f}(x_t - w_t),    v = relaxation u + (1 - relaxation) x_t,
        x_{t+1} = prox_{tau h}(v + w_t),    w_{t+1} = w_t + v - x_{t+1}

    w is the multiplier times tau = 1 / rho; any tau > 0 converges. The state is (x_t, w_t), w_0 = 0; every iterate from
    the first has been through P.

    Args:
        relaxation: between 0 and 2; 1 is the plain scheme, 1.5 to 1.8 is often faster.

    Source: S. Boyd et al., "Distributed optimization and statistical learning via the alternating direction method of
    multipliers", 2011.
    """

    relaxation: float = 1.0

    def __post_init__(self) -> None:
        _check_relaxation(self.relaxation)

    def init(self, x0: Tensor, data: Any = None) -> State:
        """Return (x_0, 0)."""
        return (x0, torch.zeros_like(x0))

    def step(self, state: State, at: Step) -> State:
        """Return (x_{t+1}, w_{t+1})."""
        x, w = state
        u = at.forward(x - w)
        v = u if self.relaxation == 1 else self.relaxation * u + (1 - self.relaxation) * x
        x = at.backward(v + w, at.tau)
        return x, w + v - x


@dataclass(frozen=True)
class ChambollePock(Scheme):
    """The primal-dual scheme for f(x) + h(K x), K linear; the update is a :class:`ProximalStep` of f, P = prox_h.

        x_{t+1} = prox_{tau f}(x_t - tau K* u_t),    u_{t+1} = prox_{sigma h*}(u_t + sigma K (2 x_{t+1} - x_t))

    The projector acts on K x, and the operator of the conjugate comes from it by Moreau's identity,
    prox_{sigma h*}(w) = w - sigma prox_{h / sigma}(w / sigma). It converges if tau sigma ||K||^2 <= 1, tau the step of
    the update. The state is (x_t, u_t), u_0 = 0.

    Args:
        K: a function of x, (B, ...) -> (B, ...); what it returns may have any shape.
        adjoint: K*, with <K x, u> = <x, K* u>.
        sigma: the step on the dual side.
        extrapolation: the 1 in 2 x_{t+1} - x_t = x_{t+1} + 1 (x_{t+1} - x_t); 0 is the scheme of Arrow and Hurwicz,
            which converges more rarely.

    Source: A. Chambolle and T. Pock, "A first-order primal-dual algorithm for convex problems", 2011.
    """

    K: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    sigma: float
    extrapolation: float = 1.0

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma must be above 0, got {self.sigma}")

    def init(self, x0: Tensor, data: Any = None) -> State:
        """Return (x_0, 0), and find K and its adjoint out if their shapes do not fit."""
        with torch.no_grad():
            u = torch.zeros_like(self.K(x0))
            back = self.adjoint(u)
        if back.shape != x0.shape:
            raise ValueError(
                f"the adjoint of K returned the shape {tuple(back.shape)} for x of shape {tuple(x0.shape)} and K x of "
                f"shape {tuple(u.shape)}: it must lead back"
            )
        if x0.ndim > 1 and u.shape[:1] != x0.shape[:1]:
            raise ValueError(
                f"K made of x of shape {tuple(x0.shape)} the shape {tuple(u.shape)}: it must keep the batch, the first "
                "dimension"
            )
        return (x0, u)

    def step(self, state: State, at: Step) -> State:
        """Return (x_{t+1}, u_{t+1})."""
        x, u = state
        new = at.forward(x - at.tau * self.adjoint(u))
        w = u + self.sigma * self.K(new + self.extrapolation * (new - x))
        return new, w - self.sigma * at.backward(w / self.sigma, 1 / self.sigma)


def _check_relaxation(relaxation: float) -> None:
    if not 0 < relaxation < 2:
        raise ValueError(f"the relaxation must lie between 0 and 2, got {relaxation}")
