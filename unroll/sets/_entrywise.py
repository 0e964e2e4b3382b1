"""Sets that bind every entry by itself; see also :class:`unroll.Box`."""

from __future__ import annotations

from torch import Tensor

from unroll._proximal import Box
from unroll.sets._base import SetProjector


class Hypercube(Box):
    """Projection onto [0, 1]^n, min(max(v, 0), 1) entry by entry; real signals of any shape. Cost: O(n).

    Source: as for :class:`unroll.Box`.
    """

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)


class NonNegative(SetProjector):
    """Projection onto {x : x >= 0}, max(v, 0) entry by entry; real signals of any shape. -inf becomes 0. Cost: O(n).

    Source: as for :class:`unroll.Box`.
    """

    point_dims = 0

    def project(self, v: Tensor) -> Tensor:
        """Return max(v, 0)."""
        return v.relu()
