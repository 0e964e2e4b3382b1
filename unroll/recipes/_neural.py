"""Neurally augmented ALISTA."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from unroll._proximal import hold
from unroll._scheme import State
from unroll.recipes._recurrent import RecurrentUpdate
from unroll.recipes._shrinkage import Selection, shrink


class NeuralShrinkage(RecurrentUpdate):
    """x_{t+1} = eta_theta(x - gamma W^T (A x - y)), gamma and theta for each sample, from an LSTM that sees two norms.

        b = A x - y,  c = W^T b,  (h, z) = LSTM([log mean|b|, log mean|c|], (h, z)),
        (u_1, u_2) = softplus(V_2 relu(V_1 z)),    gamma = u_1,    theta = u_2 mean|c|

    The memory is (h, z), learned at the start. With ``scale``, theta_i = theta / (1 + |x_i| / scale), as in ALISTA-AT.
    """

    matrix: Tensor
    weights: Tensor

    def __init__(
        self, matrix: Tensor, weights: Tensor, hidden: int, selection: Selection | None, scale: float | None
    ) -> None:
        super().__init__()
        hold(self, matrix=matrix, weights=weights)
        last = nn.Linear(hidden, 2)
        # softplus(0.54) = 1: with a network of zeros gamma is 1, and theta mean|c|.
        nn.init.constant_(last.bias, 0.5413)
        self.cell = nn.LSTMCell(2, hidden)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), last)
        self.begin = nn.Parameter(torch.zeros(2, hidden))
        self.to(matrix)
        self.selection = selection
        self.scale = scale

    def advance(self, x: Tensor, memory: State, data: Tensor, t: int) -> tuple[Tensor, State]:
        """Return x_{t+1} and (h, z); data is y."""
        residual = x @ self.matrix.mT - data
        step = residual @ self.weights
        sizes = torch.stack((residual.abs().mean(-1), step.abs().mean(-1)), dim=-1)
        # Of the smallest of floats rather than 0, the logarithm of which nothing can be learned from.
        sizes = sizes.clamp(min=torch.finfo(x.dtype).tiny)
        h, z = self.cell(sizes.log(), memory or tuple(self.begin[:, None].expand(-1, x.shape[0], -1)))
        out = softplus(self.head(z))
        gamma, theta = out[:, :1], out[:, 1:] * sizes[:, 1:]
        if self.scale is not None:
            theta = theta / (1 + x.abs() / self.scale)
        return shrink(x - gamma * step, theta, self.selection, t), (h, z)
