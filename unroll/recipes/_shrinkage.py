"""Shrinkage with support selection, and the updates that end in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unroll._proximal import hold, shrunk
from unroll._update import LearnedUpdate


@dataclass(frozen=True)
class Selection:
    """Support selection: the min(rate (t + 1), most) n largest entries of step t are not shrunk if they exceed theta.

    Both are shares in [0, 1] of the n entries. Equal entries at the border are all selected.

    Source: X. Chen et al., "Theoretical linear convergence of unfolded ISTA", NeurIPS 2018.
    """

    rate: float = 0.012
    most: float = 0.13

    def __post_init__(self) -> None:
        if not (0 <= self.rate <= 1 and 0 <= self.most <= 1):
            raise ValueError(f"rate and most must lie in [0, 1], got {self.rate} and {self.most}")

    def count(self, n: int, t: int) -> int:
        """Return how many of n entries step t selects."""
        return int(min(self.rate * (t + 1), self.most) * n)


def shrink(v: Tensor, theta: float | Tensor, selection: Selection | None, t: int) -> Tensor:
    """Return sign(v) max(|v| - theta, 0), with the selected entries of v (B, n) as they are."""
    count = 0 if selection is None else selection.count(v.shape[-1], t)
    if not count:
        return shrunk(v, theta)
    size = v.abs()
    least = size.topk(count, dim=-1).values[..., -1:]
    return torch.where((size >= least) & (size > theta), v, shrunk(v, theta))


class Shrinkage(LearnedUpdate):
    """x - g(x) = eta_theta(x - gamma W^T (A x - y)): ISTA where W = A; what is a Parameter is learned."""

    matrix: Tensor
    weights: Tensor
    step_size: float | Tensor
    threshold: float | Tensor

    def __init__(
        self,
        matrix: Tensor,
        weights: Tensor,
        step_size: float | Tensor,
        threshold: float | Tensor,
        selection: Selection | None = None,
    ) -> None:
        super().__init__()
        hold(self, matrix=matrix, weights=weights, step_size=step_size, threshold=threshold)
        self.selection = selection

    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        """Return g(x); data is y."""
        v = x - self.step_size * ((x @ self.matrix.mT - data) @ self.weights)
        return x - shrink(v, self.level(x), self.selection, t)

    def level(self, x: Tensor) -> float | Tensor:
        """Return theta."""
        return self.threshold


class AdaptiveShrinkage(Shrinkage):
    """The same with a theta for each entry, theta / (1 + |x_i| / scale): what is large already is hardly shrunk."""

    scale: float = 0.1

    def level(self, x: Tensor) -> Tensor:
        """Return theta / (1 + |x| / scale)."""
        return self.threshold / (1 + x.abs() / self.scale)


class SharedShrinkage(LearnedUpdate):
    """x - g_t(x) = eta_{theta_t}(x - gamma_t W^T (A x - y)): one W that is learned, gamma and theta for each step."""

    matrix: Tensor

    def __init__(
        self,
        matrix: Tensor,
        weights: Tensor,
        steps: int,
        step_size: float,
        threshold: float,
        selection: Selection | None,
    ) -> None:
        super().__init__()
        hold(self, matrix=matrix)
        self.weights = nn.Parameter(weights.clone())
        self.step_sizes = nn.ParameterList(weights.new_tensor(step_size) for _ in range(steps))
        self.thresholds = nn.ParameterList(weights.new_tensor(threshold) for _ in range(steps))
        self.selection = selection
        self.max_steps = steps

    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        """Return g_t(x); data is y."""
        v = x - self.step_sizes[t] * ((x @ self.matrix.mT - data) @ self.weights)
        return x - shrink(v, self.thresholds[t], self.selection, t)


class Encoder(LearnedUpdate):
    """x - g_t(x) = eta_{theta_t}(W_e y + S_t x): one W_e, and S and theta for each step."""

    def __init__(self, encoder: Tensor, mixing: Tensor, steps: int, threshold: float) -> None:
        super().__init__()
        self.encoder = nn.Parameter(encoder.clone())
        self.mixing = nn.ParameterList(mixing.clone() for _ in range(steps))
        self.thresholds = nn.ParameterList(mixing.new_tensor(threshold) for _ in range(steps))
        self.max_steps = steps

    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        """Return g_t(x); data is y."""
        return x - shrink(data @ self.encoder.mT + x @ self.mixing[t].mT, self.thresholds[t], None, t)
