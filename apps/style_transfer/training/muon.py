"""Muon for convolutions, Adam for everything else: one optimiser for a network of both."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT


class Muon(torch.optim.Optimizer):
    r"""Descent along the orthogonalised momentum for parameters of two and more dimensions, Adam's step for the others.

    Of a weight W (o, ...), seen as a matrix o x (all else), with the gradient G:

    .. math:: M \leftarrow \mu M + (1 - \mu) G, \qquad
              W \leftarrow W - 0.2 \sqrt{\max(o, i)}\, \mathrm{lr}\; \mathrm{orth}((1 - \mu) G + \mu M),

    where orth(A) = U V^T of the singular value decomposition, nearly, by five quintic Newton-Schulz iterations: every
    direction that the momentum has moves W alike, also the many weak ones that a sum over thousands of pixels hides.
    The factor makes the entries of a step as large as Adam's, so one rate serves both. Adam: betas (0.9, 0.999).

    Departure from ``torch.optim.Muon``, which takes matrices alone: kernels of a convolution are flattened here, and
    vectors and scalars have Adam in the same optimiser. No weight decay.

    Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; J. Liu et al., "Muon is
    scalable for LLM training", 2025, for the factor.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, *, momentum: float = 0.95) -> None:
        if not lr >= 0 or not 0 <= momentum < 1:
            raise ValueError(f"the rate must be at least 0 and the momentum in [0, 1), got {lr} and {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; ``closure`` computes the loss anew, as everywhere in torch.optim."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, state = parameter.grad, self.state[parameter]
                if gradient is None:
                    continue
                if parameter.ndim < 2:
                    _adam(parameter, gradient, state, group["lr"])
                else:
                    _muon(parameter, gradient, state, group["lr"], group["momentum"])
        return loss


def _muon(w: Tensor, gradient: Tensor, state: dict[str, Any], lr: float, momentum: float) -> None:
    if not state:
        state["momentum"] = torch.zeros_like(w)
    state["momentum"].lerp_(gradient, 1 - momentum)
    ahead = torch.lerp(gradient, state["momentum"], momentum)
    matrix = orthogonalise(ahead.flatten(1))
    w.add_(matrix.view(w.shape), alpha=-0.2 * math.sqrt(max(matrix.shape)) * lr)


def _adam(w: Tensor, gradient: Tensor, state: dict[str, Any], lr: float) -> None:
    if not state:
        state.update(step=torch.zeros(()), mean=torch.zeros_like(w), square=torch.zeros_like(w))
    state["step"] += 1
    state["mean"].lerp_(gradient, 0.1)
    state["square"].lerp_(gradient.square(), 0.001)
    count = float(state["step"])
    scale = (state["square"] / (1 - 0.999**count)).sqrt() + 1e-8
    w.sub_(lr / (1 - 0.9**count) * state["mean"] / scale)


def orthogonalise(a: Tensor) -> Tensor:
    """Return U V^T of a matrix A = U S V^T, nearly: singular values of 1 / 100 of the norm and more come to 0.7..1.2.

    Five iterations A <- a A + (b K + c K^2) A, K = A A^T, of the coefficients that lift small singular values fastest;
    0 stays 0.
    """
    x: Tensor = a.mT if a.shape[0] > a.shape[1] else a
    x = x / (torch.linalg.matrix_norm(x) + 1e-20)
    for _ in range(5):
        k = x @ x.mT
        x = 3.4445 * x + (-4.7750 * k + 2.0315 * k @ k) @ x
    return x.mT if a.shape[0] > a.shape[1] else x
