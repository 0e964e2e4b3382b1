"""The temporal term as one more proximal operator, put into the loop at run time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from unroll import ProximalOperator


class Temporal(ProximalOperator):
    r"""prox of f(x) = lambda/2 ||M^(1/2) (x - w)||^2, with which a frame is held to the one before:

    .. math:: \mathrm{prox}_{\tau f}(v) = \frac{v + \tau\lambda_t\, m \odot w}{1 + \tau\lambda_t\, m}, \qquad w = W y,

    entry by entry, where y is the frame before, restyled, W warps it along the motion and M = diag(m) is where that
    can be trusted: 0 is an occlusion, and x is free there. Nothing is trained for it: it is to a video what a projector
    is to a photograph. ``unroll`` calls it with tau = 1.

    Args:
        warped: w, that broadcasts against the signal; moves with the module.
        mask: m in [0, 1], likewise.
        weight: lambda >= 0, or lambda_t for the steps t = 0, 1, ..; steps after the last one have its weight, as calls
            without t. Where m = 1, 1 / (1 + lambda) of the result of a step is the step's own and the rest w.

    Cost: O(n). Raises ValueError.

    Source: M. Ruder, A. Dosovitskiy, T. Brox, "Artistic style transfer for videos", 2016, equation 7, there a loss.
    """

    warped: Tensor
    mask: Tensor

    def __init__(self, warped: Tensor, mask: Tensor, weight: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        self.weights = tuple(weight) if isinstance(weight, Sequence) else (weight,)
        if not self.weights or not all(0 <= w < math.inf for w in self.weights):
            raise ValueError(f"the weight must be a number of at least 0, or one for each step, got {weight}")
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            raise ValueError("the mask must lie in [0, 1]: 0 where the motion is unknown, 1 where it is sure")
        self.register_buffer("warped", warped, persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return (v + tau lambda_t m w) / (1 + tau lambda_t m)."""
        last = len(self.weights) - 1
        pull = tau * self.weights[last if t is None else min(t, last)] * self.mask.to(v)
        return (v + pull * self.warped.to(v)) / (1 + pull)
