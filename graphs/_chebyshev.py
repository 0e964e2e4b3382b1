"""Jackson-damped Chebyshev polynomials of the ideal low-pass, h(lambda) ~ 1 for lambda <= cutoff and 0 beyond.

With lambda = lambda_max (1 + cos(theta)) / 2, the damping convolves the step in theta by a positive kernel of standard
deviation about pi / order: 0 <= h <= 1 everywhere, and h grows with the cutoff. Near zero, that resolves frequencies of
lambda_max (pi / order)^2 / 4.

Source: E. Di Napoli, E. Polizzi, Y. Saad, "Efficient estimation of eigenvalue counts in an interval", 2016.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from graphs._laplacian import FloatArray, Laplacian


def low_pass(fraction: float, order: int) -> FloatArray:
    """Return the damped coefficients (order + 1,) of the low-pass of cutoff = fraction * lambda_max."""
    theta = math.acos(min(max(2 * fraction - 1, -1.0), 1.0))
    m = np.arange(1, order + 1)
    step = np.concatenate([[1 - theta / np.pi], -2 * np.sin(m * theta) / (m * np.pi)])
    coefficients: FloatArray = step * jackson(order)
    return coefficients


def jackson(order: int) -> FloatArray:
    """Return Jackson's damping factors (order + 1,), the Fourier coefficients of a positive kernel."""
    m, alpha = np.arange(order + 1), np.pi / (order + 2)
    factors: FloatArray = (1 - m / (order + 2)) * np.cos(m * alpha) + np.sin(m * alpha) / (np.tan(alpha) * (order + 2))
    return factors


def fourth_kind(degree: int) -> FloatArray:
    """Return the coefficients of W_m(1 - 2 lambda / lambda_max) / (2 m + 1), W_m = 1 + 2 (T_1 + .. + T_m).

    It is 1 at 0, within [-1, 1], and of all such polynomials p of its degree the one of the least maximum of
    lambda p(lambda)^2: lambda_max / (2 m + 1)^2. Source: J. Lottes, "Optimal polynomial smoothers for multigrid
    V-cycles", 2023.
    """
    signs = 2 * (-1.0) ** np.arange(degree + 1)
    signs[0] = 1
    coefficients: FloatArray = signs / (2 * degree + 1)
    return coefficients


def apply(laplacian: Laplacian, coefficients: FloatArray, v: Tensor) -> Tensor:
    """Return sum_m c_m T_m(2 L / lambda_max - 1) v for planes (m, n), by Clenshaw's recurrence: order matvecs."""
    if len(coefficients) == 1:
        return float(coefficients[0]) * v
    scale = 4 / (laplacian.lambda_max or 1.0)
    older, newer = torch.zeros_like(v), float(coefficients[-1]) * v
    for c in coefficients[-2:0:-1]:
        older, newer = newer, laplacian.combine(newer, scale, -2.0, older, -1.0, v, float(c), out=older)
    return laplacian.combine(newer, scale / 2, -1.0, older, -1.0, v, float(coefficients[0]), out=older)


def moments(laplacian: Laplacian, probes: Tensor, order: int) -> FloatArray:
    """Return <z, T_m(2 L / lambda_max - 1) z> for m = 0 to 2 order and each probe, (probes, 2 order + 1).

    T_2m = 2 T_m^2 - 1 makes every matvec give two moments.
    """
    scale = 4 / (laplacian.lambda_max or 1.0)
    older, newer = probes.clone(), laplacian.combine(probes, scale / 2, -1.0)
    zero, one = _inner(probes, probes), _inner(probes, newer)
    found = [zero, one]
    for _ in range(order - 1):
        found.append(2 * _inner(newer, newer) - zero)
        older, newer = newer, laplacian.combine(newer, scale, -2.0, older, -1.0, out=older)
        found.append(2 * _inner(older, newer) - one)
    found.append(2 * _inner(newer, newer) - zero)
    return np.stack(found, axis=1)


def _inner(u: Tensor, v: Tensor) -> FloatArray:
    return (u * v).sum(dim=1, dtype=torch.float64).cpu().numpy()
