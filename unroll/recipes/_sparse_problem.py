"""The standard problem of sparse recovery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseRecovery:
    """y = A x + noise: x of Bernoulli support and standard normal values, A Gaussian (m, n) with columns of norm 1.

    A is drawn once, from ``seed``, on the CPU in float32; the signals are drawn as they are asked for.

    Args:
        m, n: the numbers of measurements and of unknowns.
        density: the probability, in (0, 1], that an entry of x is not zero.
        snr_db: E||A x||^2 / E||noise||^2 in dB; infinity is no noise.
        seed: of A alone.

    Source: X. Chen, J. Liu, Z. Wang and W. Yin, "Theoretical linear convergence of unfolded ISTA and its practical
    weights and thresholds", NeurIPS 2018.
    """

    m: int = 250
    n: int = 500
    density: float = 0.1
    snr_db: float = 40.0
    seed: int = 0
    matrix: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.m, self.n) < 1:
            raise ValueError(f"m and n must be at least 1, got m = {self.m} and n = {self.n}")
        if not 0 < self.density <= 1:
            raise ValueError(f"density must lie in (0, 1], got {self.density}")
        a = torch.randn(self.m, self.n, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float32)
        object.__setattr__(self, "matrix", a / torch.linalg.vector_norm(a, dim=0))

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return signals x (size, n) and measurements y (size, m), drawn from a generator of the CPU."""
        kept = torch.rand(size, self.n, generator=generator, dtype=torch.float32) < self.density
        x = kept * torch.randn(size, self.n, generator=generator, dtype=torch.float32)
        # The columns have norm 1, so that E||A x||^2 = n density: the noise does not depend on the batch.
        deviation = (self.n * self.density / self.m * 10 ** (-self.snr_db / 10)) ** 0.5
        noise = deviation * torch.randn(size, self.m, generator=generator, dtype=torch.float32)
        return x, x @ self.matrix.mT + noise

    def batches(self, size: int, seed: int = 0) -> Callable[[Any], tuple[Tensor, Tensor, Tensor]]:
        """Return the data of :func:`unroll.fit`: at -> (x0 = 0, y, x), drawn anew at every step of the training.

        The batch is a function of ``seed`` and ``at.step`` alone, so that a training that is resumed sees the same.
        """

        def draw(at: Any) -> tuple[Tensor, Tensor, Tensor]:
            x, y = self.batch(size, torch.Generator().manual_seed(1_000_003 * seed + at.step))
            return torch.zeros_like(x), y, x

        return draw

    @staticmethod
    def nmse_db(x_hat: Tensor, x: Tensor) -> float:
        """Return 10 log10(sum ||x_hat - x||^2 / sum ||x||^2), the sums over the batch; waits for the device."""
        return float(10 * torch.log10((x_hat - x).square().sum() / x.square().sum()))
