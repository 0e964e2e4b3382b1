"""Signals of constant pieces: how isotonic regression and total variation share their derivative."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll.sets._base import Search, SetProjector


class Isotonic(SetProjector):
    """Projection onto {x : x_1 <= x_2 <= ... <= x_n}, isotonic regression: blocks of v are replaced by their means.

    Shapes: vectors along the last dimension, the others are batch. Real. Exact, by pooling adjacent violators: O(n).
    The blocks are found on the CPU, wherever v is; the derivative is the mean over each.

    Source: R. Barlow et al., "Statistical inference under order restrictions", 1972.
    """

    def project(self, v: Tensor) -> Tensor:
        """Return v, averaged over the blocks."""
        return mean_of_pieces(v, Search.apply(_pooled, v.detach()))


def mean_of_pieces(v: Tensor, like: Tensor) -> Tensor:
    """Return v averaged over the pieces of the last dimension on which another signal is constant."""
    labels = torch.nn.functional.pad((like.diff(dim=-1) != 0).cumsum(-1), (1, 0))
    # A large offset of v costs digits in the sums.
    with torch.no_grad():
        centre = v[..., :1]
    sums = torch.zeros_like(v).scatter_add(-1, labels, v - centre)
    counts = torch.zeros_like(v).scatter_add(-1, labels, torch.ones_like(v)).clamp(min=1)
    return centre + (sums / counts).gather(-1, labels)


def _pooled(v: Tensor) -> Tensor:
    from unroll.sets import _kernels

    return _kernels.over_rows(_kernels.pool, v)
