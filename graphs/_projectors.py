"""Projectors and proximal operators of graphs, for the loop of an unrolled solver."""

from __future__ import annotations

import functools
import logging
import math

import torch
from torch import Tensor

from graphs import _chebyshev
from graphs._coarse import CoarseSpace
from graphs._laplacian import Laplacian
from graphs._polynomials import filtered
from graphs._signals import from_planes, linear, self_adjoint, to_planes
from graphs._spectrum import Eigenbasis, cutoff_for
from unroll import Operator, ProximalOperator, Subspace

logger = logging.getLogger(__name__)


class BandlimitedProjector(Subspace):
    """P(v) = argmin ||x - v||^2 over the k-bandlimited signals, x in span(U_k): U_k U_k^T v, channel by channel.

    ``basis`` is what :func:`eigenbasis` returns, or U_k (n, k) itself with orthonormal columns. Signals: (n,), (n, c),
    and (B, C, H, W) with H W = n, of any real floating dtype (half precision is computed in float32, autocast has no
    effect). Cost: 2 n k multiplications a channel; keep U_k in the dtype of the signals to save its conversion at each
    call.

    Source: G. Puy and P. Perez, arXiv:1806.05285.
    """

    def __init__(self, basis: Eigenbasis | Tensor) -> None:
        super().__init__(basis.vectors if isinstance(basis, Eigenbasis) else basis)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return U_k U_k^T v; tau is idle."""
        return from_planes(super().forward(to_planes(v, self.basis.shape[0])), v)


class ChebyshevLowPass(ProximalOperator):
    """h(L) v, h a Jackson-damped Chebyshev polynomial of the ideal low-pass: the bandlimited projector, fast.

    0 <= h <= 1 on the spectrum, so it is the prox of a convex quadratic, 1/2 <x, (h(L)^-1 - 1) x>. It is a projector
    only in the limit of the order: it is not idempotent, for frequencies near the cutoff are kept in part.

    Args:
        laplacian: L.
        k: how many eigenvectors to pass, an integer or a fraction of n in (0, 1); the cutoff is then found by counting
            eigenvalues (:func:`cutoff_for`), never computing them. Or
        cutoff: the highest frequency to pass, in (0, lambda_max]. Give one of the two.
        order: of the polynomial, and the number of matvecs of a call. None takes 3 pi / 2 sqrt(lambda_max / cutoff),
            which keeps h(0) >= 0.99; far below that, h(0) < 1 fades even the mean of a signal.

    Signals as in :class:`Laplacian`; on their device, in their dtype, half precision computed in float32. tau is idle.
    Differentiable in v at the cost of another call, and in weights that require a gradient (:func:`from_edges`), where
    every matvec is kept for it; cutoff and lambda_max stay constants. Raises ValueError.

    Attributes: ``cutoff``, ``order``.

    Source: D. Hammond, P. Vandergheynst, R. Gribonval, "Wavelets on graphs via spectral graph theory", 2011;
    L. O. Jay et al., "Electronic structure calculations for plane-wave codes without diagonalization", 1999 (damping).
    """

    linear = True

    def __init__(
        self,
        laplacian: Laplacian,
        *,
        k: int | float | None = None,
        cutoff: float | None = None,
        order: int | None = None,
    ) -> None:
        super().__init__()
        if laplacian.lambda_max == 0:
            raise ValueError("the graph has no edges (lambda_max = 0): every signal is in the band")
        if k is not None and cutoff is None:
            cutoff = cutoff_for(laplacian, k)
        elif k is not None or cutoff is None:
            raise ValueError("ChebyshevLowPass takes either k= or cutoff=, and one of them")
        elif not 0 < cutoff <= laplacian.lambda_max:
            raise ValueError(f"the cutoff must lie in (0, lambda_max = {laplacian.lambda_max:.4g}], got {cutoff}")
        order = _order_for(cutoff / laplacian.lambda_max) if order is None else order
        if order < 1:
            raise ValueError(f"the order must be at least 1, got {order}")
        self.laplacian, self.cutoff, self.order = laplacian, cutoff, order
        self._coefficients = _chebyshev.low_pass(cutoff / laplacian.lambda_max, order)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return h(L) v."""
        return from_planes(filtered(self.laplacian, self._coefficients, self.laplacian.planes(v)), v)

    def distance(self, v: Tensor) -> float:
        """Return ||P v - Q v|| / ||Q v||, Q the :meth:`sharper` polynomial.

        At the default order it is some 30 per cent for white noise and 6 for the changes that a solver makes to a
        photograph, whose energy lies well inside the band. Cost: a call of Q.
        """
        with torch.no_grad():
            fine = self.sharper()(v)
            return float((self(v) - fine).norm() / fine.norm())

    def sharper(self) -> ChebyshevLowPass:
        """Return what distances are measured from: the same cutoff, 16 times the default order or this one, if larger.

        Without a gap at the cutoff the error falls like the root of the order, so that it is itself off by a quarter as
        much as this, at the default.
        """
        order = 16 * max(self.order, _order_for(self.cutoff / self.laplacian.lambda_max))
        return ChebyshevLowPass(self.laplacian, cutoff=self.cutoff, order=order)

    def response(self, eigenvalues: Tensor) -> Tensor:
        """Return h at frequencies in [0, lambda_max], in the shape and dtype given."""
        theta = (2 * eigenvalues.double() / self.laplacian.lambda_max - 1).clamp(-1, 1).acos()
        m = torch.arange(self.order + 1, device=theta.device)
        return ((m * theta[..., None]).cos() @ torch.from_numpy(self._coefficients).to(theta)).to(eigenvalues.dtype)


def _order_for(fraction: float) -> int:
    """Return the order that keeps h(0) >= 0.99 for a cutoff at that fraction of lambda_max."""
    return math.ceil(1.5 * math.pi / math.sqrt(fraction))


class Tikhonov(ProximalOperator):
    """The prox of the smoothness gamma/2 Tr(X^T L X): v -> argmin_x tau gamma/2 Tr(x^T L x) + 1/2 ||x - v||^2.

    That is (I + tau gamma L)^-1 v, the low-pass 1 / (1 + tau gamma lambda), by preconditioned conjugate gradients on
    all channels at once.

    Args:
        laplacian: L.
        gamma: >= 0; frequencies of 1 / gamma are halved. 1e2 to 1e4 for matting Laplacians.
        rtol: the iteration stops where ||v - (I + tau gamma L) x|| <= rtol ||v|| in every channel; since
            I + tau gamma L >= I, the error ||x - x*|| is then at most rtol ||v|| too.
        max_iter: where it gives up, with a warning (logging) that says the residual reached; never silently.

    Signals as in :class:`Laplacian`, on their device and in their dtype; computed in float64, since float32 loses to
    gamma lambda_max. No graph of the iterations is kept: the backward pass is the same solve. Where the weights of the
    graph require a gradient (:func:`from_edges`), it reaches them, twice differentiably, by the implicit function
    theorem at no further solve: dx = -(I + tau gamma L)^-1 tau gamma dL x. Raises ValueError.

    A call keeps no state and starts from zero; :meth:`solve` takes an initial guess, :meth:`error` bounds the error
    reached.

    Preconditioner: a Jacobi sweep, on pixel grids within a two-level cycle with a coarse space of 5 x 5 blocks on which
    signals are affine in the image, factored on the CPU at the first call for each tau gamma. It takes 50 to 100
    iterations for a matting Laplacian, where Jacobi alone takes 230 (gamma 1e2) to 2200 (1e4).

    Source: M. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.
    """

    linear = True

    def __init__(self, laplacian: Laplacian, gamma: float, *, rtol: float = 1e-4, max_iter: int = 1000) -> None:
        super().__init__()
        if not (gamma >= 0 and math.isfinite(gamma)):
            raise ValueError(f"gamma must be a number of at least 0, got {gamma}")
        if not rtol > 0 or max_iter < 1:
            raise ValueError(f"rtol must be positive and max_iter at least 1, got {rtol} and {max_iter}")
        self.laplacian, self.gamma, self.rtol, self.max_iter = laplacian, gamma, rtol, max_iter

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return (I + tau gamma L)^-1 v."""
        return self.solve(v, tau)

    def solve(self, v: Tensor, tau: float = 1.0, *, start: Tensor | None = None) -> Tensor:
        """Return the same from an initial guess x_0 of the shape of v, None for zero: a warm start.

        The result obeys rtol whatever the guess, and is a function of v alone as far as derivatives go. The guess to
        give is the last result, in a loop of slowly changing v: where v has moved by delta ||v||, the residual begins
        at delta. No call does so by itself, since its result would then depend on what it saw before.
        """
        planes = self.laplacian.planes(v)
        strength = tau * self.gamma

        def action(right: Tensor) -> Tensor:
            return self._solve(right, strength)

        if start is None:
            solution = self_adjoint(planes, action)
        elif start.shape != v.shape:
            raise ValueError(f"start must have the shape {tuple(v.shape)} of the signal, got {tuple(start.shape)}")
        else:
            pair = torch.stack([planes, self.laplacian.planes(start).to(planes)])
            solution = linear(
                pair,
                lambda p: self._solve(p[0], strength, p[1]),
                lambda right: torch.stack([action(right), torch.zeros_like(right)]),
            )
        for _ in range(2 if self.laplacian.requires_grad else 0):
            # Zeros to solve for, so no iterations; their derivatives are dv - tau gamma dL x.
            change = planes - planes.detach() - strength * self.laplacian._variation(solution)
            solution = solution.detach() + self_adjoint(change, action)
        return from_planes(solution, v)

    def error(self, x: Tensor, v: Tensor, tau: float = 1.0) -> Tensor:
        """Return a proven bound of ||x - x*|| / ||v|| for each channel, x* the exact result and x any approximation.

        With r = v - (I + tau gamma L) x, one more solve gives e near (I + tau gamma L)^-1 r = x* - x, and the bound is
        ||e|| + ||r - (I + tau gamma L) e||, all over ||v||: above the truth by at most 2 rtol ||r|| / ||v||, where
        ||r|| / ||v|| <= rtol itself for what this operator returned. It also measures other approximations of x*.

        Shape: () for signals (n,), (c,) for (n, c), (B, C) for images and videos; float64. Without gradients. Raises
        ValueError where x and v differ in shape.
        """
        if x.shape != v.shape:
            raise ValueError(f"x and v must be signals of one shape, got {tuple(x.shape)} and {tuple(v.shape)}")
        strength = tau * self.gamma
        with torch.no_grad():
            right, found = (self.laplacian.planes(s).double() for s in (v, x))
            residual = right - self.laplacian.combine(found, strength, 1.0)
            correction = self._solve(residual, strength)
            rest = residual - self.laplacian.combine(correction, strength, 1.0)
            error, missed, size = (torch.linalg.vector_norm(s, dim=1) for s in (correction, rest, right))
            bounds: Tensor = (error + missed) / size.clamp_min(torch.finfo(torch.float64).tiny)
        return bounds.reshape(v.shape[:2] if v.ndim > 2 else v.shape[1:])

    def response(self, eigenvalues: Tensor) -> Tensor:
        """Return 1 / (1 + gamma lambda) at frequencies, in the shape, dtype and device given."""
        response: Tensor = 1 / (1 + self.gamma * eigenvalues)
        return response

    @functools.cached_property
    def _coarse(self) -> CoarseSpace | None:
        return CoarseSpace(self.laplacian) if self.laplacian.grid_shape else None

    def _solve(self, v: Tensor, strength: float, start: Tensor | None = None) -> Tensor:
        """Conjugate gradients on planes (m, n), each with its own step sizes, from zero or from ``start``."""
        with torch.no_grad():
            residual = v.to(torch.float64, copy=True)
            tiny = torch.finfo(torch.float64).tiny
            size = torch.linalg.vector_norm(residual, dim=1).clamp_min(tiny)
            product = torch.empty_like(residual)
            if start is None:
                x = torch.zeros_like(residual)
            else:
                x = start.to(torch.float64, copy=True)
                residual -= self.laplacian.combine(x, strength, 1.0)
            sweep = 1 / (1 + strength * self.laplacian.absolute_sums().to(residual))
            direction = energy = None
            for iteration in range(self.max_iter + 1):
                reached = float((torch.linalg.vector_norm(residual, dim=1) / size).max()) if v.numel() else 0.0
                if reached <= self.rtol or math.isnan(reached) or iteration == self.max_iter:
                    break
                scaled = self._precondition(residual, sweep, strength)
                energy, last = (residual * scaled).sum(dim=1, keepdim=True), energy
                if direction is None or last is None:
                    direction = scaled
                else:
                    direction.mul_(energy / last.clamp_min(tiny)).add_(scaled)
                self.laplacian.combine(direction, strength, 1.0, out=product)
                step = energy / (direction * product).sum(dim=1, keepdim=True).clamp_min(tiny)
                x.addcmul_(step, direction)
                residual.addcmul_(step, product, value=-1)
            if not reached <= self.rtol:
                logger.warning(
                    "Tikhonov stopped after %d iterations (max_iter=%d): relative residual %.1e, above rtol=%.1e",
                    iteration,
                    self.max_iter,
                    reached,
                    self.rtol,
                )
            return x.to(v.dtype)

    def _precondition(self, residual: Tensor, sweep: Tensor, strength: float) -> Tensor:
        """One symmetric cycle: sweep, coarse correction, sweep. The row sums of |L| keep it positive definite."""
        x = sweep * residual
        if self._coarse is None:
            return x
        left = residual - self.laplacian.combine(x, strength, 1.0)
        x += self._coarse.correct(left, strength)
        self.laplacian.combine(x, strength, 1.0, out=left)
        return x + sweep * (residual - left)


class Around(Operator):
    """P(v) = guide + operator(v - guide): an operator on the difference from a guide.

    Of the projection onto span(U_k) it makes the projection onto the affine set guide + span(U_k), of the prox of f the
    prox of f(. - guide). So it is as convex and idempotent as its operator, which its instance says, but not linear.

    ``guide`` broadcasts against the signal, is used in its dtype and on its device, and is not in the state_dict.
    Raises ValueError where the two do not broadcast to the shape of the signal.
    """

    guide: Tensor

    def __init__(self, operator: Operator, guide: Tensor) -> None:
        super().__init__()
        self.operator = operator
        self.convex = operator.convex  # type: ignore[misc]  # a law of the operator inside, known per instance only
        self.idempotent = operator.idempotent  # type: ignore[misc]
        self.register_buffer("guide", guide, persistent=False)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return guide + operator(v - guide)."""
        guide = self.guide.to(v)
        try:
            guide = guide.expand_as(v)
        except RuntimeError:
            raise ValueError(f"the guide {tuple(guide.shape)} does not fit the signal {tuple(v.shape)}") from None
        moved: Tensor = guide + self.operator(v - guide, tau, t=t)
        return moved
