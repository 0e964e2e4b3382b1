"""Responses h(lambda) that the field knows by name, as functions of tensors of eigenvalues.

Bands are relative to lambda_max. Definitions as in PyGSP.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Response = Callable[[Tensor], Tensor]


def heat(lambda_max: float, scale: float) -> Response:
    """Return exp(-scale lambda / lambda_max)."""
    return lambda x: torch.exp(-scale * x / lambda_max)


def tikhonov(gamma: float) -> Response:
    """Return 1 / (1 + gamma lambda)."""
    return lambda x: 1 / (1 + gamma * x)


def rectangular(lambda_max: float, band_min: float | None, band_max: float | None) -> Response:
    """Return 1 where band_min <= lambda / lambda_max <= band_max, else 0."""
    low, high = (-math.inf if band_min is None else band_min), (math.inf if band_max is None else band_max)
    return lambda x: ((x / lambda_max >= low) & (x / lambda_max <= high)).to(x)


def expwin(lambda_max: float, band_min: float | None, band_max: float | None, slope: float) -> Response:
    """Return the window that is 1/2 at its two edges and infinitely smooth; s(x) = e(x) / (e(x) + e(1 - x))."""

    def e(x: Tensor) -> Tensor:
        positive = torch.where(x > 0, x, 1.0)
        return torch.where(x > 0, torch.exp(-slope / positive), 0.0)

    def s(x: Tensor) -> Tensor:
        return e(x) / (e(x) + e(1 - x))

    def window(x: Tensor) -> Tensor:
        falling = torch.ones_like(x) if band_max is None else s(0.5 - x / lambda_max + band_max)
        return falling if band_min is None else falling * s(0.5 + x / lambda_max - band_min)

    return window


def meyer(lambda_max: float, bands: int) -> list[Response]:
    """Return the scaling function and bands - 1 wavelets, at scales 4 / (3 lambda_max) 2^(bands - 2) down to 2^0."""

    def v(x: Tensor) -> Tensor:
        return x**4 * (35 - 84 * x + 70 * x**2 - 20 * x**3)

    def father(scale: float, x: Tensor) -> Tensor:
        x = scale * x
        return torch.cos(math.pi / 2 * v((1.5 * x - 1).clamp(0, 1)))

    def mother(scale: float, x: Tensor) -> Tensor:
        x = scale * x
        return torch.sin(math.pi / 2 * v((1.5 * x - 1).clamp(0, 1))) * torch.cos(
            math.pi / 2 * v((0.75 * x - 1).clamp(0, 1))
        )

    scales = [4 / (3 * lambda_max) * 2.0**i for i in range(bands - 2, -1, -1)]
    return [partial(father, scales[0]), *(partial(mother, scale) for scale in scales)]


def itersine(lambda_max: float, bands: int, overlap: float) -> list[Response]:
    """Return sin(pi/2 cos^2(pi x)) on |x| <= 1/2, moved to ``bands`` places; 1 / overlap of a band apart."""
    width = lambda_max / (bands - overlap + 1) * overlap

    def centred(i: int, x: Tensor) -> Tensor:
        x = x / width - (i - overlap / 2) / overlap
        return math.sqrt(2 / overlap) * torch.sin(math.pi / 2 * torch.cos(math.pi * x).square()) * (x.abs() <= 0.5)

    return [partial(centred, i) for i in range(1, bands + 1)]
