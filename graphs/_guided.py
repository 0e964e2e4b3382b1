"""The guided filter: a local affine model of the signal in the colours of an image, averaged over windows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphs._memory import require_memory
from graphs._pixels import pixel_array
from graphs._signals import from_planes, to_planes
from unroll import Operator


class GuidedFilter(Operator):
    r"""q_i = mean over the windows w that hold i of a_w^T I_i + b_w, each (a_w, b_w) the best affine model there:

    .. math:: (a_w, b_w) = argmin_{a, b} \sum_{i \in w} (a^T I_i + b - v_i)^2 + eps |w| \|a\|^2

    It keeps what is affine in the colours of the guide I in each window, as the low frequencies of the matting
    Laplacian are, without a system to solve: one step of Jacobi for it, by He et al. Constants stay as they are. It is
    linear in v but not self-adjoint, and claims no law.

    Args:
        guide: (C, H, W) or (1, C, H, W), any number of channels, floating, in [0, 1].
        radius: of the windows, 1 <= radius < min(H, W); they are cut off at the border of the image.
        eps: > 0, in squared units of the guide: variances far below it are smoothed over. The ``eps`` of
            :func:`matting` is |w| times this one.

    Signals (n,), (n, c) or (B, C, H, W), on their device, in their dtype; computed in float64, for window covariances
    are differences of large sums. Differentiable in v. tau is idle. Cost: sums over windows are differences of running
    sums, so a call costs the same for every radius; memory: C^2 + 2 C numbers a pixel. Raises ValueError, TypeError for
    integer images, and MemoryError, before it begins, for guides that are too large.

    Source: K. He, J. Sun, X. Tang, "Guided image filtering", PAMI 2013.
    """

    guide: Tensor
    mean: Tensor
    inverse: Tensor

    def __init__(self, guide: Tensor, radius: int, eps: float) -> None:
        super().__init__()
        pixels = torch.from_numpy(pixel_array(guide)).to(guide.device)
        height, width = pixels.shape[1:]
        if isinstance(radius, bool) or not isinstance(radius, int) or not 1 <= radius < min(height, width):
            raise ValueError(
                f"radius must be an integer from 1 to {min(height, width) - 1} for a guide of {height} x {width} "
                f"pixels, got {radius}"
            )
        if not 0 < eps < math.inf:
            raise ValueError(f"eps must be a positive number, got {eps}")
        channels = len(pixels)
        require_memory(
            24.0 * (channels**2 + channels) * height * width,
            f"the guided filter of {height} x {width} pixels with {channels} channels",
            "use a smaller guide",
        )
        self.radius, self.eps = radius, eps
        pixels = pixels - pixels.mean(dim=(1, 2), keepdim=True)  # nothing depends on it, and less cancels
        mean = self._mean(pixels)
        covariance = self._mean(pixels[:, None] * pixels) - mean[:, None] * mean
        ridge = eps * torch.eye(len(pixels), dtype=torch.float64, device=pixels.device)
        inverse = torch.linalg.inv(covariance.permute(2, 3, 0, 1) + ridge).permute(2, 3, 0, 1)
        self.register_buffer("guide", pixels, persistent=False)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("inverse", inverse.contiguous(), persistent=False)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return the filtered signal, channel by channel."""
        height, width = self.guide.shape[1:]
        planes = to_planes(v, height * width, (height, width)).double().reshape(-1, height, width)
        guide, mean, inverse = (s.to(v.device, torch.float64) for s in (self.guide, self.mean, self.inverse))
        level = self._mean(planes)
        slopes = self._mean(planes[:, None] * guide) - level[:, None] * mean
        slopes = (inverse * slopes[:, None]).sum(dim=2)
        level = level - (slopes * mean).sum(dim=1)
        result = (self._mean(slopes) * guide).sum(dim=1) + self._mean(level)
        return from_planes(result.flatten(-2), v)

    def _mean(self, x: Tensor) -> Tensor:
        """Return the mean of x (..., H, W) over the window of each pixel, by running sums."""
        for dim in (-1, -2):
            n = x.shape[dim]
            sums = torch.nn.functional.pad(x.movedim(dim, -1).cumsum(dim=-1), (1, 0))
            centre = torch.arange(n, device=x.device)
            low, high = (centre - self.radius).clamp(min=0), (centre + self.radius + 1).clamp(max=n)
            x = ((sums[..., high] - sums[..., low]) / (high - low)).movedim(-1, dim)
        return x

    def extra_repr(self) -> str:
        """Return what print shows."""
        return f"radius={self.radius}, eps={self.eps:g}"
