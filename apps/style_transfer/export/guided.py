"""The guided filter in operators that every runtime has: the projector that an exported solver can carry inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from apps.style_transfer.projectors import ProjectorOptions
from unroll import Operator

PROJECTORS = ("none", "guided")


GUIDED = ProjectorOptions("guided", eps=1e-4)
"""What stands in the loop of an exported solver, if anything does."""


class TraceableGuidedFilter(Operator):
    """The filter of :class:`graphs.GuidedFilter` for colour images, whatever their size is.

    Its guide (1, 3, H, W) may be a symbol of a graph: nothing is checked, no value and no size decides what is done,
    and the 3 x 3 systems are solved by Cramer's rule, for ONNX has no other. Signals (1, 3, H, W); computed in float64.
    """

    def __init__(self, guide: Tensor, radius: int, eps: float) -> None:
        super().__init__()
        self.radius = radius
        pixels = guide[0].double()
        self.pixels = pixels - pixels.mean((1, 2), keepdim=True)  # nothing depends on it, and less cancels
        self.mean = self._mean(self.pixels)
        covariance = self._mean(self.pixels[:, None] * self.pixels) - self.mean[:, None] * self.mean
        first, second, third = (
            covariance + eps * torch.eye(3, dtype=torch.float64, device=guide.device)[..., None, None]
        )
        adjugate = torch.stack([_cross(second, third), _cross(third, first), _cross(first, second)])
        self.inverse = adjugate / (first * adjugate[0]).sum(0)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return the filtered signal, channel by channel."""
        planes = v[0].double()
        level = self._mean(planes)
        slopes = self._mean(planes[:, None] * self.pixels) - level[:, None] * self.mean
        slopes = (self.inverse * slopes[:, None]).sum(2)
        level = level - (slopes * self.mean).sum(1)
        return ((self._mean(slopes) * self.pixels).sum(1) + self._mean(level))[None].to(v.dtype)

    def _mean(self, x: Tensor) -> Tensor:
        """Return the mean of x (..., H, W) over the window of each pixel, cut off at the border, by running sums."""
        for dim in (-1, -2):
            n = x.shape[dim]
            sums = pad(x.cumsum(dim), (1, 0) if dim == -1 else (0, 0, 1, 0))
            centre = torch.arange(n, device=x.device)
            low, high = (centre - self.radius).clamp(min=0), (centre + self.radius + 1).clamp(max=n)
            count = (high - low).to(x.dtype)
            total = sums.index_select(dim, high) - sums.index_select(dim, low)
            x = total / (count if dim == -1 else count[:, None])
        return x


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2] for i in range(3)])
