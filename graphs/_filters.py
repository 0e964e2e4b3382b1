"""Any function of a Laplacian, h(L) v, by Chebyshev polynomials."""

from __future__ import annotations

import math
from typing import Self, TypedDict, Unpack

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from graphs import _responses
from graphs._laplacian import FloatArray, Laplacian
from graphs._polynomials import MAX_ORDER, Polynomial, enclosure, enough, filtered, fit, sample, top, values
from graphs._responses import Response
from graphs._signals import from_planes
from unroll import Operator


class Options(TypedDict, total=False):
    """How a response becomes a polynomial; see SpectralFilter."""

    order: int | None
    tolerance: float
    damping: bool


class _Tolerance(TypedDict, total=False):
    tolerance: float


class SpectralFilter(Operator):
    """h(L) v = U h(Lambda) U^T v, for any function h of the eigenvalues, by a Chebyshev polynomial p near h.

    Args:
        laplacian: L.
        h: maps float64 tensors of frequencies in [0, lambda_max] to real ones; called here only, without gradients.
            :meth:`heat`, :meth:`tikhonov`, :meth:`rectangular` and :meth:`expwin` are ready-made.
        order: of p, and the number of matvecs of a call. None takes the smallest, by bisection, that is within
        tolerance: max |p - h| on [0, lambda_max]. Where 0 <= h <= 1, a p that leaves [0, 1] by no more than that is
            moved into it.
        damping: by Jackson's positive kernel. p then keeps the bounds of h, even where h jumps, and does not ring; but
            it smooths h over pi / order in the angle arccos(2 lambda / lambda_max - 1).

    Linear, and of every instance of its own: ``convex`` where 0 <= p <= 1 on [0, lambda_max], and then it is the prox
    of 1/2 <x, (p(L)^-1 - 1) x>. It claims no idempotence. That p lies in ``range`` is proven: on a grid of angles p is
    computed, and between them its second derivative bounds it. ``error`` is the largest |p - h| on that grid.

    Filters of one Laplacian add, scale and compose: f + g, 2 * f and f @ g are p_f + p_g, 2 p_f and p_f p_g.
    Signals as in :class:`Laplacian`, on their device, in their dtype, half precision computed in float32. tau is idle.
    Differentiable in v at the cost of another call, and in weights that require a gradient (:func:`from_edges`), where
    every matvec is kept for it; p and lambda_max stay constants. Raises ValueError for an h that is not finite, or that
    no order up to 4000 brings within tolerance, as none does where h jumps.

    Attributes: ``order``, ``error``, ``range`` (low, high), ``h``, ``laplacian``.

    Source: D. Hammond, P. Vandergheynst, R. Gribonval, "Wavelets on graphs via spectral graph theory", 2011; H. Ehlich,
    K. Zeller, "Schwankung von Polynomen zwischen Gitterpunkten", 1964 (the bound).
    """

    linear = True

    def __init__(
        self,
        laplacian: Laplacian,
        h: Response,
        *,
        order: int | None = None,
        tolerance: float = 1e-3,
        damping: bool = False,
    ) -> None:
        super().__init__()
        if not tolerance > 0:
            raise ValueError(f"the tolerance must be positive, got {tolerance}")
        if order is not None and (isinstance(order, bool) or not isinstance(order, int) or not 0 <= order <= MAX_ORDER):
            raise ValueError(f"the order must be an integer from 0 to {MAX_ORDER}, got {order}")
        self._keep(laplacian, h, fit(laplacian, h, order, tolerance, damping))

    def _keep(self, laplacian: Laplacian, h: Response, polynomial: Polynomial) -> None:
        self.laplacian, self.h, self.range, self.error = laplacian, h, polynomial.range, polynomial.error
        self.order = len(polynomial.coefficients) - 1
        self._coefficients = polynomial.coefficients
        low, high = polynomial.range
        self.convex = low >= -1e-12 and high <= 1 + 1e-12  # type: ignore[misc]  # known per instance; rounding

    def _made(self, h: Response, coefficients: FloatArray, corners: list[float]) -> SpectralFilter:
        """Return the filter of other coefficients, which stand for h; its range lies within the corners too."""
        made = SpectralFilter.__new__(SpectralFilter)
        Operator.__init__(made)
        low, high = enclosure(coefficients)
        points = enough(len(coefficients))
        on_grid = sample(h, self.laplacian, points)
        error = float(np.abs(values(coefficients, points) - on_grid).max())
        bounds = max(low, min(corners)), min(high, max(corners))
        made._keep(self.laplacian, h, Polynomial(coefficients, bounds, error))
        return made

    @classmethod
    def heat(cls, laplacian: Laplacian, scale: float = 10.0, **options: Unpack[Options]) -> Self:
        """Return the diffusion exp(-scale lambda / lambda_max) for the time scale / lambda_max; scale >= 0."""
        if not 0 <= scale < math.inf:
            raise ValueError(f"scale must be a number of at least 0, got {scale}")
        return cls(laplacian, _responses.heat(top(laplacian), scale), **options)

    @classmethod
    def tikhonov(cls, laplacian: Laplacian, gamma: float, **options: Unpack[Options]) -> Self:
        """Return 1 / (1 + gamma lambda), as :class:`Tikhonov` by polynomials: good where gamma lambda_max <= 1e3."""
        if not 0 <= gamma < math.inf:
            raise ValueError(f"gamma must be a number of at least 0, got {gamma}")
        return cls(laplacian, _responses.tikhonov(gamma), **options)

    @classmethod
    def rectangular(
        cls,
        laplacian: Laplacian,
        band_min: float | None = None,
        band_max: float | None = 0.2,
        *,
        order: int,
        damping: bool = True,
        **options: Unpack[_Tolerance],
    ) -> Self:
        """Return 1 on band_min <= lambda / lambda_max <= band_max, else 0; None leaves a side open. It needs an order.

        Damped unless told otherwise: an undamped one rings by 9 per cent at the edges. Low-passes are better made by
        :class:`ChebyshevLowPass`, which chooses the order, and by ``k``.
        """
        _check_band(band_min, band_max)
        h = _responses.rectangular(top(laplacian), band_min, band_max)
        return cls(laplacian, h, order=order, damping=damping, **options)

    @classmethod
    def expwin(
        cls,
        laplacian: Laplacian,
        band_min: float | None = None,
        band_max: float | None = 0.2,
        slope: float = 1.0,
        **options: Unpack[Options],
    ) -> Self:
        """Return the infinitely smooth window of edges (value 1/2) band_min and band_max, relative to lambda_max.

        With s(x) = e(x) / (e(x) + e(1 - x)) and e(x) = exp(-slope / x) for x > 0, else 0, it is the product of
        s(1/2 + lambda / lambda_max - band_min) and s(1/2 - lambda / lambda_max + band_max); None leaves a side out.
        """
        _check_band(band_min, band_max)
        if not 0 < slope < math.inf:
            raise ValueError(f"slope must be a positive number, got {slope}")
        return cls(laplacian, _responses.expwin(top(laplacian), band_min, band_max, slope), **options)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return p(L) v."""
        return from_planes(filtered(self.laplacian, self._coefficients, self.laplacian.planes(v)), v)

    @property
    def coefficients(self) -> FloatArray:
        """The coefficients (order + 1,) of p in Chebyshev polynomials of 2 lambda / lambda_max - 1; a copy."""
        return self._coefficients.copy()

    def response(self, eigenvalues: Tensor) -> Tensor:
        """Return p at frequencies in [0, lambda_max], in the shape, dtype and device given."""
        x = (2 * eigenvalues.detach().cpu().double() / top(self.laplacian) - 1).clamp(-1, 1)
        values = np.asarray(chebyshev.chebval(x.numpy(), self._coefficients))
        return torch.from_numpy(values).reshape(eigenvalues.shape).to(eigenvalues)

    def __add__(self, other: SpectralFilter) -> SpectralFilter:
        """Return the filter of p_self + p_other."""
        if not isinstance(other, SpectralFilter):
            return NotImplemented
        f, g = self.h, self.beside(other).h
        coefficients = np.asarray(chebyshev.chebadd(self._coefficients, other._coefficients), dtype=np.float64)
        corners = [a + b for a, b in zip(self.range, other.range, strict=True)]
        return self._made(lambda x: f(x) + g(x), coefficients, corners)

    def __mul__(self, factor: float) -> SpectralFilter:
        """Return the filter of factor times p."""
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            return NotImplemented
        h = self.h
        return self._made(lambda x: factor * h(x), factor * self._coefficients, [factor * a for a in self.range])

    __rmul__ = __mul__

    def __matmul__(self, other: SpectralFilter) -> SpectralFilter:
        """Return one filter after the other, which is that of p_self p_other; the orders add."""
        if not isinstance(other, SpectralFilter):
            return NotImplemented
        f, g = self.h, self.beside(other).h
        coefficients = np.asarray(chebyshev.chebmul(self._coefficients, other._coefficients), dtype=np.float64)
        corners = [a * b for a in self.range for b in other.range]
        return self._made(lambda x: f(x) * g(x), coefficients, corners)

    def beside(self, other: SpectralFilter) -> SpectralFilter:
        """Return the other filter, checked to be one of the same Laplacian; ValueError if not."""
        if other.laplacian is not self.laplacian:
            raise ValueError("filters add and compose on one Laplacian, these two have different ones")
        return other

    def extra_repr(self) -> str:
        """Return what print shows."""
        return f"order={self.order}, error={self.error:.1e}, range=({self.range[0]:.3g}, {self.range[1]:.3g})"


def _check_band(band_min: float | None, band_max: float | None) -> None:
    if band_min is not None and band_max is not None and not band_min < band_max:
        raise ValueError(f"a band needs band_min < band_max, relative to lambda_max, got {band_min} and {band_max}")
