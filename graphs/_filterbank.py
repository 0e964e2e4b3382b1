"""Filter banks: several filters of one Laplacian at once, their analysis, synthesis and frame bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self, Unpack

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from graphs import _responses
from graphs._filters import Options, SpectralFilter
from graphs._laplacian import Laplacian
from graphs._polynomials import enclosure, filtered, top
from graphs._signals import from_planes, linear


class FilterBank:
    """Several filters of one Laplacian: the analysis v -> (p_1(L) v, ..., p_m(L) v) and its adjoint, the synthesis.

    ``frame_bounds`` = (A, B) are proven: A ||v||^2 <= ||analyse(v)||^2 <= B ||v||^2, the extremes of sum_i p_i^2 on
    [0, lambda_max]. Where A = B (a tight frame, as nearly :meth:`meyer` and :meth:`itersine`),
    synthesise(analyse(v)) = A v. Both ways share their matvecs: the largest order of them, whatever the number of
    filters. Signals as in :class:`Laplacian`. Differentiable, in weights that require a gradient too (then each filter
    takes its own matvecs). Raises ValueError.
    """

    def __init__(self, filters: Iterable[SpectralFilter]) -> None:
        self.filters = tuple(filters)
        if not self.filters:
            raise ValueError("a filter bank needs at least one filter")
        self.laplacian = self.filters[0].laplacian
        for f in self.filters:
            self.filters[0].beside(f)
        self._coefficients = [f.coefficients for f in self.filters]
        squares = np.zeros(2 * max(f.order for f in self.filters) + 1)
        for c in self._coefficients:
            squares[: 2 * len(c) - 1] += chebyshev.chebmul(c, c)
        low, high = enclosure(squares)
        self.frame_bounds = max(low, 0.0), high

    @classmethod
    def meyer(cls, laplacian: Laplacian, bands: int = 6, **options: Unpack[Options]) -> Self:
        """Return the low-pass and bands - 1 >= 1 wavelets of Meyer, each an octave above the last; sum h_i^2 = 1.

        Source: N. Leonardi, D. Van De Ville, "Wavelet frames on graphs defined by fMRI functional connectivity", 2011.
        """
        if isinstance(bands, bool) or not isinstance(bands, int) or bands < 2:
            raise ValueError(f"Meyer's bank has at least 2 bands, got {bands}")
        return cls(SpectralFilter(laplacian, h, **options) for h in _responses.meyer(top(laplacian), bands))

    @classmethod
    def itersine(
        cls, laplacian: Laplacian, bands: int = 6, *, overlap: float = 2.0, **options: Unpack[Options]
    ) -> Self:
        """Return equally wide bands of sin(pi/2 cos^2), each over ``overlap`` steps from one to the next.

        An even overlap makes sum h_i^2 = 1. 1 <= overlap < bands + 1.

        Source: N. Perraudin et al., "GSPBOX: A toolbox for signal processing on graphs", 2014.
        """
        if isinstance(bands, bool) or not isinstance(bands, int) or bands < 1:
            raise ValueError(f"a bank has at least 1 band, got {bands}")
        if not 1 <= overlap < bands + 1:
            raise ValueError(f"overlap must lie in [1, bands + 1 = {bands + 1}), got {overlap}")
        return cls(SpectralFilter(laplacian, h, **options) for h in _responses.itersine(top(laplacian), bands, overlap))

    def analyse(self, v: Tensor) -> Tensor:
        """Return p_i(L) v for each filter, (filters, *shape of v)."""
        planes = self.laplacian.planes(v)
        if self.laplacian.requires_grad:
            planes = torch.stack([filtered(self.laplacian, c, planes) for c in self._coefficients])
        else:
            planes = linear(planes, self._analyse, self._synthesise)
        return torch.stack([from_planes(p, v) for p in planes])

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Return sum_i p_i(L) c_i of coefficients (filters, *shape of a signal)."""
        if len(coefficients) != len(self):
            raise ValueError(
                f"the bank has {len(self)} filters, the coefficients {tuple(coefficients.shape)} not so many"
            )
        stack = torch.stack([self.laplacian.planes(c) for c in coefficients])
        if self.laplacian.requires_grad:
            parts = zip(self._coefficients, stack, strict=True)
            planes = torch.stack([filtered(self.laplacian, c, part) for c, part in parts]).sum(dim=0)
        else:
            planes = linear(stack, self._synthesise, self._analyse)
        return from_planes(planes, coefficients[0])

    def response(self, eigenvalues: Tensor) -> Tensor:
        """Return p_i at frequencies in [0, lambda_max], (filters, *shape given)."""
        return torch.stack([f.response(eigenvalues) for f in self.filters])

    def __len__(self) -> int:
        """Return the number of filters."""
        return len(self.filters)

    def _analyse(self, planes: Tensor) -> Tensor:
        """Planes (m, n) to (filters, m, n), by the recurrence of T_m, of which every filter takes its share."""
        out = torch.stack([float(c[0]) * planes for c in self._coefficients])
        scale = 4 / top(self.laplacian)
        older, newer = planes.clone(), planes
        for m in range(1, max(f.order for f in self.filters) + 1):
            if m == 1:
                newer = self.laplacian.combine(planes, scale / 2, -1.0)
            else:
                older, newer = newer, self.laplacian.combine(newer, scale, -2.0, older, -1.0, out=older)
            for c, plane in zip(self._coefficients, out, strict=True):
                if m < len(c):
                    plane.add_(newer, alpha=float(c[m]))
        return out

    def _synthesise(self, stack: Tensor) -> Tensor:
        """Planes (filters, m, n) to (m, n), by Clenshaw's recurrence with a sum over the filters at each step."""

        def term(m: int) -> Tensor:
            total = torch.zeros_like(stack[0])
            for c, plane in zip(self._coefficients, stack, strict=True):
                if m < len(c):
                    total.add_(plane, alpha=float(c[m]))
            return total

        last = max(f.order for f in self.filters)
        if last == 0:
            return term(0)
        scale = 4 / top(self.laplacian)
        older, newer = torch.zeros_like(stack[0]), term(last)
        for m in range(last - 1, 0, -1):
            older, newer = newer, self.laplacian.combine(newer, scale, -2.0, older, -1.0, term(m), 1.0, out=older)
        return self.laplacian.combine(newer, scale / 2, -1.0, older, -1.0, term(0), 1.0, out=older)
