"""Small problems that the tests of the core share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import unroll

STEP = 0.03


class LeastSquares(unroll.Loss):
    """1/2 ||A x - y||^2 for rows x (B, n), data = (A, y)."""

    def forward(self, x: Tensor, data: tuple[Tensor, Tensor]) -> Tensor:
        a, y = data
        return 0.5 * (x @ a.mT - y).abs().square().sum(-1)


def gradient_steps(step: float = STEP) -> unroll.GradientStep:
    """Return the gradient steps of 1/2 ||A x - y||^2, by default below 2 / L for the problem below."""
    return unroll.GradientStep(LeastSquares(), step)


def least_squares_prox(v: Tensor, data: tuple[Tensor, Tensor], tau: float | Tensor) -> Tensor:
    """Return (I + tau A^T A)^-1 (v + tau A^T y): the proximal operator of 1/2 ||A x - y||^2, for rows."""
    a, y = data
    matrix = torch.eye(a.shape[1], dtype=a.dtype) + tau * a.mT @ a
    return (v + tau * y @ a) @ torch.linalg.inv(matrix)


class Affine(unroll.LearnedUpdate):
    """A learned update W x + b."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n, n)

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        return 0.5 * torch.tanh(self.linear(x)).to(x.dtype)


def problem(*, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return A (8, 5), y (3, 8) and x0 (3, 5)."""
    generator = torch.Generator().manual_seed(0)
    a, y, x0 = (torch.randn(*s, dtype=torch.float64, generator=generator) for s in ((8, 5), (3, 8), (3, 5)))
    return a.to(dtype), y.to(dtype), x0.to(dtype)
