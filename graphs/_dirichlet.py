"""The projection onto the signals of bounded Dirichlet energy: how much may vary on the graph, as a constraint."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from graphs._laplacian import Laplacian
from graphs._signals import from_planes, self_adjoint
from unroll import Projector

logger = logging.getLogger(__name__)


class DirichletBall(Projector):
    """Projection onto {x : Tr(x^T L x) <= n radius}, n the number of nodes: argmin of ||x - v||^2 over that set.

    The Lagrangian form of it is :class:`Tikhonov`: where v is outside, P(v) = (I + mu L)^-1 v with the mu > 0 at which
    the energy is n radius, and P(v) = v elsewhere. So the constraint is of one strength, in units of the energy, for
    every signal, and mu follows from the signal: a strongly varying v is smoothed more.

    Args:
        laplacian: L.
        radius: the energy that a node may have, > 0.
        rtol: the iteration stops where ||v - (I + mu L) x|| <= rtol ||v|| in every channel; since I + mu L >= I, x is
            then within rtol ||v|| of (I + mu L)^-1 v, and the energy of x is n radius, to 1e-4 of it, whatever rtol is.
            Below 8 roundings of the dtype nothing can be asked for, and it counts as that.
        max_iter: where it gives up, with a warning (logging) that says the residual reached.

    Signals as in :class:`Laplacian`; the energy is that of a sample, all its channels together. Computed in the dtype
    of the signal, in float32 at least. Differentiable, once, by the implicit function theorem and two more solves: with
    A = I + mu L the derivative is A^-1 dv - p <L x, A^-1 dv> / <L x, p>, p = A^-1 L x. Raises ValueError.

    Method: the Krylov space of v serves all mu at once. Lanczos gives a small tridiagonal T in which energy and
    residual are known for every mu; mu is the root of 1/sqrt(energy) - 1/sqrt(n radius), concave and nearly linear in
    mu, by Newton steps from 0 that never overshoot; a second pass of the same recurrence sums x up, so that no basis
    is kept. Cost: two products with L an iteration, about 7 sqrt(mu lambda_max) iterations; four
    vectors.

    Sources: J. More and D. Sorensen, "Computing a trust region step", 1983, for the equation of mu; A. Frommer and
    U. Glaessner, "Restarted GMRES for shifted linear systems", 1998, for one Krylov space for all shifts.
    """

    def __init__(self, laplacian: Laplacian, radius: float, *, rtol: float = 1e-5, max_iter: int = 1000) -> None:
        super().__init__()
        if not 0 < radius < math.inf:
            raise ValueError(f"radius must be a positive number, the energy that a node may have, got {radius}")
        if not rtol > 0 or max_iter < 1:
            raise ValueError(f"rtol must be positive and max_iter at least 1, got {rtol} and {max_iter}")
        self.laplacian, self.radius, self.rtol, self.max_iter = laplacian, radius, rtol, max_iter

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return P(v)."""
        working = self._working(v)
        samples = v.shape[0] if v.ndim > 2 else 1
        with torch.no_grad():
            x, mu = self._solve(working, samples)
        if working.requires_grad and torch.is_grad_enabled():
            x = self._differentiable(working, x, mu)
        return from_planes(x, v)

    def multiplier(self, v: Tensor) -> Tensor:
        """Return mu, the gamma of the :class:`Tikhonov` that does the same to v: (B,), or () for (n,) and (n, c)."""
        with torch.no_grad():
            _, mu = self._solve(self._working(v), len(v) if v.ndim > 2 else 1)
        return mu if v.ndim > 2 else mu[0]

    def damped(self, v: Tensor, mu: float) -> Tensor:
        """Return (I + mu L)^-1 v for a mu that is known, without gradients: for who finds it elsewhere."""
        with torch.no_grad():
            found, _ = self._solve(self._working(v), 1, torch.tensor([mu], dtype=torch.float64, device=v.device))
        return from_planes(found, v)

    def _working(self, v: Tensor) -> Tensor:
        planes = self.laplacian.planes(v)
        return planes.to(torch.promote_types(planes.dtype, torch.float32))

    def _differentiable(self, v: Tensor, x: Tensor, mu: Tensor) -> Tensor:
        """Return x with the derivative of the projection: zeros are added to it, whose derivatives are not."""
        moved = x + self_adjoint(v - v.detach(), lambda right: self._solve(right, len(mu), mu)[0])
        slope = self.laplacian.combine(x)
        along = self._solve(slope, len(mu), mu)[0]
        curvature = _per_sample(slope * along, len(mu))
        change = _per_sample(slope * (moved - x), len(mu))
        share = torch.where(mu.to(x) > 0, change / curvature.clamp_min(torch.finfo(x.dtype).tiny), 0)
        return moved - along * _spread(share, x)

    def _solve(self, v: Tensor, samples: int, mu: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (I + mu L)^-1 v for planes (m, n), and mu (samples,), float64; without a mu it is found."""
        size = torch.linalg.vector_norm(v, dim=1).double()
        rtol = max(self.rtol, 8 * torch.finfo(v.dtype).eps)
        found = _Tridiagonal.empty(v)
        for j, (_, alpha, beta) in enumerate(self._lanczos(v), start=1):
            found = found.grown(alpha, beta)
            if j > 4 and j % max(4, j // 8) and j < self.max_iter:
                continue
            theta, s = found.eigen()
            weights = (size[:, None] * s[:, 0]) ** 2
            at = _multiplier(theta, weights, self.laplacian.n * self.radius, samples) if mu is None else mu
            # (I + mu T)^-1 e_1; its last entry is what the next vector of the space would be needed for.
            solved = (s @ (s[:, 0] / (1 + _spread(at, theta) * theta))[..., None])[..., 0]
            residual = _spread(at, beta) * beta * solved[:, -1:].abs()
            reached = float(residual.nan_to_num().max()) if residual.numel() else 0.0
            if reached <= rtol or j == self.max_iter or not bool(residual.isfinite().all()):
                break
        if reached > rtol:
            logger.warning(
                "DirichletBall stopped after %d iterations (max_iter=%d): relative residual %.1e, above rtol=%.1e",
                j,
                self.max_iter,
                reached,
                rtol,
            )
        inside = _spread(at, v) == 0
        if bool(inside.all()):
            return v, at
        coefficients = (solved * size[:, None]).to(v)
        x = torch.zeros_like(v)
        for c, (q, _, _) in zip(coefficients.T, self._lanczos(v), strict=False):
            x.addcmul_(c[:, None], q)
        return torch.where(inside, v, x), at

    def _lanczos(self, v: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield q_j (m, n) and the coefficients alpha_j and beta_j (m, 1) in float64, for each plane by itself."""
        size = torch.linalg.vector_norm(v, dim=1, keepdim=True)
        q, last = v / size.clamp_min(torch.finfo(v.dtype).tiny), torch.zeros_like(v)
        beta = torch.zeros_like(size)
        # Below that the Krylov space is complete, and what is left is rounding.
        least = 8 * torch.finfo(v.dtype).eps * self.laplacian.lambda_max
        while True:
            w = self.laplacian.combine(q)
            alpha = (q * w).sum(1, keepdim=True)
            w.addcmul_(alpha, q, value=-1).addcmul_(beta, last, value=-1)
            norm = torch.linalg.vector_norm(w, dim=1, keepdim=True)
            beta = torch.where(norm > least, norm, 0)
            yield q, alpha.double(), beta.double()
            w.mul_(torch.where(beta > 0, 1 / norm, 0))
            q, last = w, q


class _Tridiagonal(NamedTuple):
    """T of every plane: its diagonal (m, j), and what stands beside that, beta_j of the last row too."""

    alpha: Tensor
    beta: Tensor

    @classmethod
    def empty(cls, v: Tensor) -> _Tridiagonal:
        none = torch.empty(v.shape[0], 0, dtype=torch.float64, device=v.device)
        return cls(none, none)

    def grown(self, alpha: Tensor, beta: Tensor) -> _Tridiagonal:
        return _Tridiagonal(torch.cat([self.alpha, alpha], 1), torch.cat([self.beta, beta], 1))

    def eigen(self) -> tuple[Tensor, Tensor]:
        """Return the eigenvalues theta >= 0 (m, j) and the unit eigenvectors (m, j, j), as columns."""
        beside = self.beta[:, :-1]
        dense = torch.diag_embed(self.alpha) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
        theta, s = torch.linalg.eigh(dense)
        return theta.clamp_min(0), s


def _multiplier(theta: Tensor, weights: Tensor, energy: float, samples: int) -> Tensor:
    """Return mu >= 0 (samples,) with sum of weights theta / (1 + mu theta)^2 = energy, 0 where it is less at 0."""
    theta, weights = (x.reshape(samples, -1) for x in (theta, weights))
    mu = theta.new_zeros(samples, 1)
    # Ten steps do for all but extreme ratios; they are of small matrices.
    for _ in range(60):
        part = weights * theta / (1 + mu * theta) ** 2
        now = part.sum(1, keepdim=True)
        slope = -2 * (part * theta / (1 + mu * theta)).sum(1, keepdim=True)
        step = 2 * now * (1 - (now / energy).sqrt()) / slope
        mu = torch.where(now > energy, mu + step, mu)
        if not bool((step > 1e-14 * mu).any()):
            break
    return mu[:, 0]


def _per_sample(planes: Tensor, samples: int) -> Tensor:
    return planes.reshape(samples, -1).sum(1)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """Return values (samples,) as a column for the planes of each sample, in their dtype."""
    return values.repeat_interleave(like.shape[0] // values.shape[0])[:, None].to(like)
