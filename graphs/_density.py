"""The density of a spectrum, from a few random signals: what to draw behind a filter's response."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphs import _chebyshev
from graphs._laplacian import Laplacian
from graphs._spectrum import sign_moments


class SpectralDensity(NamedTuple):
    """Eigenvalues per unit of frequency, as a fraction of n, and how many lie at or below each; all float64, (points,).

    ``density`` integrates to 1 over [0, lambda_max]; ``cumulative`` rises from 0 to 1, n of it counts eigenvalues, and
    ``standard_error`` is that of ``cumulative``, from the probes alone.
    """

    frequencies: Tensor
    density: Tensor
    cumulative: Tensor
    standard_error: Tensor


def spectral_density(
    laplacian: Laplacian, frequencies: Tensor | int = 400, *, order: int = 400, probes: int = 8, seed: int = 0
) -> SpectralDensity:
    """Estimate the density of the eigenvalues by the kernel polynomial method.

    With mu_m the mean of <z, T_m(2 L / lambda_max - 1) z> / n over random signs z, Jackson's damping g_m, and
    lambda = lambda_max (1 + cos(theta)) / 2, the density in theta is 1 / pi (mu_0 + 2 sum_m g_m mu_m cos(m theta)): the
    true one convolved with a positive kernel of deviation about pi / order.

    Args:
        laplacian: L.
        frequencies: where, in (0, lambda_max); or how many, equidistant in theta and so densest at the two ends.
        order: of the polynomial, even; near zero it resolves lambda_max (pi / order)^2 / 4.
        probes: random signals, at least 2.
        seed: of their generator; no global one is touched.

    Cost: order / 2 matvecs of ``probes`` channels. Raises ValueError.

    Source: L. Lin, Y. Saad, C. Yang, "Approximating spectral densities of large matrices", SIAM Review 2016.
    """
    top = laplacian.lambda_max
    if top == 0:
        raise ValueError("the graph has no edges (lambda_max = 0): its spectrum is the point 0 and has no density")
    if isinstance(frequencies, Tensor):
        where = frequencies.detach().cpu().double().numpy()
        if where.ndim != 1 or not ((where > 0) & (where < top)).all():
            raise ValueError(f"frequencies must be a vector within (0, lambda_max = {top:.4g})")
    else:
        if isinstance(frequencies, bool) or frequencies < 1:
            raise ValueError(f"the number of frequencies must be at least 1, got {frequencies}")
        where = top * (1 - np.cos(np.pi * (np.arange(frequencies) + 0.5) / frequencies)) / 2
    moments = sign_moments(laplacian, order, probes, seed) / laplacian.n
    last = moments.shape[1] - 1
    # The coefficients of low-passes are those of the step of the distribution: (theta - pi) / pi and sines.
    steps = np.stack([_chebyshev.low_pass(cutoff / top, last) for cutoff in where])
    cumulative = moments @ steps.T
    theta = np.arccos(np.clip(2 * where / top - 1, -1, 1))
    m = np.arange(last + 1)
    series = np.where(m == 0, 1.0, 2.0) * _chebyshev.jackson(last) * moments.mean(axis=0)
    density = np.cos(np.outer(theta, m)) @ series / np.pi / np.sqrt(where * (top - where))
    parts = (where, density, cumulative.mean(axis=0), cumulative.std(axis=0, ddof=1) / math.sqrt(probes))
    return SpectralDensity(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))
