"""Plug and play: a denoiser in the place of a proximal operator."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from unroll._operator import Operator


class Denoiser(Operator):
    """Any denoiser in the loop, learned or not; it promises no law, and the solver may not converge.

    Shapes and cost are those of the denoiser.

    The reason: prox_{tau f} is the most probable signal in Gaussian noise of variance tau sigma^2 around it, if
    exp(-f / sigma^2) is the prior.

    Args:
        denoise: v -> signal of the same shape; a module, if it has parameters. With ``sigma``, it is called as
            denoise(v, level), with level = sigma sqrt(tau), the standard deviation of the noise to be removed.
        sigma: that of the noise at tau = 1.

    Source: S. Venkatakrishnan, C. Bouman, B. Wohlberg, "Plug-and-play priors for model based reconstruction", 2013.
    """

    def __init__(self, denoise: Callable[..., Tensor], sigma: float | None = None) -> None:
        super().__init__()
        self.denoise = denoise
        self.sigma = sigma

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return the denoised v."""
        return self.denoise(v) if self.sigma is None else self.denoise(v, self.sigma * tau**0.5)
