"""Polynomials near a response h on [0, lambda_max], as Chebyshev series, and what is proven of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from graphs import _chebyshev
from graphs._laplacian import FloatArray, Laplacian
from graphs._responses import Response
from graphs._signals import self_adjoint

# Angles at which responses are sampled and polynomials checked; frequencies lambda_max (1 + cos) / 2, dense near zero.
POINTS = 2**15
MAX_ORDER = 4000


class Polynomial(NamedTuple):
    """p = sum_m c_m T_m(2 lambda / lambda_max - 1), what is proven of it, low <= p <= high, and max |p - h|."""

    coefficients: FloatArray
    range: tuple[float, float]
    error: float


def filtered(laplacian: Laplacian, coefficients: FloatArray, planes: Tensor) -> Tensor:
    """Return p(L) v for planes (m, n), under autograd: once more for the gradient of v, with nothing kept.

    Where the weights require a gradient too, autograd goes through the recurrence and keeps each of its steps. p and
    lambda_max are constants.
    """
    if not laplacian.requires_grad:
        return self_adjoint(planes, lambda x: _chebyshev.apply(laplacian, coefficients, x))
    scale = 2 / top(laplacian)
    older, newer = torch.zeros_like(planes), torch.zeros_like(planes)
    for c in coefficients[:0:-1]:
        older, newer = newer, 2 * (scale * laplacian._differentiable(newer) - newer) - older + float(c) * planes
    return scale * laplacian._differentiable(newer) - newer - older + float(coefficients[0]) * planes


def fit(laplacian: Laplacian, h: Response, order: int | None, tolerance: float, damping: bool) -> Polynomial:
    """Return p by the discrete cosine transform of h; see SpectralFilter for the arguments."""
    nodes, on_grid = sample(h, laplacian, POINTS, middles=True), sample(h, laplacian, POINTS)
    expansion = scipy.fft.dct(nodes) / POINTS
    expansion[0] /= 2
    least, most = min(nodes.min(), on_grid.min()), max(nodes.max(), on_grid.max())

    def of_order(order: int) -> Polynomial:
        coefficients = expansion[: order + 1].copy()
        if damping:
            coefficients *= _chebyshev.jackson(order)
        low, high = enclosure(coefficients)
        if damping:  # p averages h with positive weights
            low, high = max(low, float(least)), min(high, float(most))
        elif least >= -1e-12 and most <= 1 + 1e-12 and max(-low, high - 1) <= tolerance:  # rounding of h
            bottom, top = min(low, 0.0), max(high, 1.0)
            coefficients[0] -= bottom
            coefficients /= top - bottom
            low, high = (low - bottom) / (top - bottom), (high - bottom) / (top - bottom)
        return Polynomial(coefficients, (low, high), float(np.abs(values(coefficients, POINTS) - on_grid).max()))

    if order is not None:
        return of_order(order)
    best, failing = of_order(MAX_ORDER), -1
    if best.error > tolerance:
        raise ValueError(
            f"no polynomial of order up to {MAX_ORDER} comes within {tolerance:.1e} of h (this one: {best.error:.1e}): "
            "raise tolerance, or where h jumps give order, and damping=True"
        )
    while (order := len(best.coefficients) - 1) - failing > 1:
        tried = of_order((order + failing) // 2)
        if tried.error <= tolerance:
            best = tried
        else:
            failing = len(tried.coefficients) - 1
    return best


def enclosure(coefficients: FloatArray) -> tuple[float, float]:
    """Return proven bounds of p on [0, lambda_max].

    In the angle p is a trigonometric polynomial; between two neighbours of a grid of step s it leaves the values there
    by at most s^2 / 8 max |p''|, and max |p''| is at most 1 / cos(d s / 2) times that on the grid, d the degree.
    """
    degree = len(coefficients) - 1
    points = enough(degree)
    step = math.pi / points
    bend = np.abs(values(coefficients * np.arange(degree + 1) ** 2, points)).max() / math.cos(degree * step / 2)
    on_grid, slack = values(coefficients, points), step**2 / 8 * bend
    return float(on_grid.min() - slack), float(on_grid.max() + slack)


def enough(degree: int) -> int:
    """Return how many angles serve for a polynomial of a degree."""
    return max(POINTS, int(2 ** math.ceil(math.log2(4 * degree + 4))))


def values(coefficients: FloatArray, points: int) -> FloatArray:
    """Return sum_m c_m cos(m theta) at theta = pi j / points, j = 0 to points."""
    padded = np.zeros(points + 1)
    padded[: len(coefficients)] = coefficients
    padded[1:-1] /= 2
    found: FloatArray = scipy.fft.dct(padded, type=1)
    return found


def sample(h: Response, laplacian: Laplacian, points: int, *, middles: bool = False) -> FloatArray:
    """Return h at lambda_max (1 + cos(pi j / points)) / 2, j = 0 to points, or at the middles between them; checked."""
    places = np.arange(points) + 0.5 if middles else np.arange(points + 1)
    frequencies = top(laplacian) * (1 + np.cos(np.pi * places / points)) / 2
    with torch.no_grad():
        found = torch.as_tensor(h(torch.from_numpy(frequencies)))
    if found.is_complex() or found.shape not in ((), frequencies.shape):
        raise ValueError(
            f"h must map a tensor of frequencies to a real one of its shape {frequencies.shape}, "
            f"got {found.dtype} of shape {tuple(found.shape)}"
        )
    response: FloatArray = found.cpu().double().expand(frequencies.shape).numpy()
    if not np.isfinite(response).all():
        worst = frequencies[~np.isfinite(response)][0]
        raise ValueError(f"h must be finite on [0, lambda_max = {top(laplacian):.4g}], it is not at {worst:.4g}")
    return response


def top(laplacian: Laplacian) -> float:
    """Return lambda_max; 1 for graphs without edges, as in _chebyshev: their only frequency is 0."""
    return laplacian.lambda_max or 1.0
