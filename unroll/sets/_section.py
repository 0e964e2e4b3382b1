"""The part of a box that lies in a hyperplane."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll._proximal import hold, like
from unroll.sets._base import SetProjector, check_length


class BoxSection(SetProjector):
    """Projection onto {x : low <= x <= high, <w, x> = c}: clip(v - theta w), theta such that <w, x> = c.

    Args:
        low, high: numbers, or tensors that broadcast against the vectors; infinite bounds are none.
        weights: w, (n,), of any sign; 0 leaves an entry to the box alone.
        total: c, a number, or a tensor that broadcasts against (..., 1).

    Shapes: vectors (..., n) along the last dimension, the others are batch. Real; computed in double
    precision. Exact: theta lies between two of the 2 n values where an entry meets a bound, found by sorting and
    bisection, O(n log n), and is then a quotient.

    Raises ValueError where low > high or no point of the box has <w, x> = c.

    Source: K. Kiwiel, "Breakpoint searching algorithms for the continuous quadratic knapsack problem", 2008.
    """

    low: float | Tensor
    high: float | Tensor
    weights: Tensor
    total: float | Tensor

    def __init__(self, low: float | Tensor, high: float | Tensor, weights: Tensor, total: float | Tensor) -> None:
        super().__init__()
        if weights.ndim != 1:
            raise ValueError(f"the weights must be a vector (n,), got the shape {tuple(weights.shape)}")
        if not bool(torch.as_tensor(low <= high).all()):
            raise ValueError(f"BoxSection needs low <= high, got low = {low} and high = {high}")
        ends = [torch.where(weights == 0, 0, weights * bound) for bound in (low, high)]
        least, most = (f(*ends).sum(-1, keepdim=True) for f in (torch.minimum, torch.maximum))
        slack = 1e-6 * (most - least)
        if not bool(((least - slack <= total) & (total <= most + slack)).all()):
            raise ValueError(
                f"the section is empty: <w, x> takes values from {least} to {most} in the box, not {total}"
            )
        hold(self, low=low, high=high, weights=weights, total=total)

    def project(self, v: Tensor) -> Tensor:
        """Return clip(v - theta w)."""
        check_length(self, v, tuple(self.weights.shape))
        v = v.double()
        w = self.weights.to(v)
        low, high = (torch.as_tensor(bound, dtype=v.dtype, device=v.device) for bound in (self.low, self.high))
        total = like(self.total, v)
        with torch.no_grad():
            # The result does not depend on it: what theta is counted from saves the digits of a large common part.
            shift = _solve(v, w, low, high, total)[0] * w
        moved = v - shift
        theta, free, bound = _solve(moved, w, low, high, total)
        x = torch.where(free, moved - theta * w, torch.where(w == 0, v, bound))
        return torch.maximum(torch.minimum(x, high), low)


def _solve(v: Tensor, w: Tensor, low: Tensor, high: Tensor, total: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return theta, which entries are within their bounds, and at which bound the others are."""
    with torch.no_grad():
        left, right = _interval(v, w, low, high, total)
        first, second = _meetings(v, w, low, high)
        free = (first <= left) & (second >= right)
        lowest = (second <= left) == (w > 0)
    bound = torch.where(lowest, low, high)
    fixed = torch.where(free | (w == 0), 0, w * bound)
    square = torch.where(free, w * w, 0).sum(-1, keepdim=True)
    left_over = (torch.where(free, w * v, 0) + fixed).sum(-1, keepdim=True) - total
    return left_over / torch.where(square > 0, square, 1), free, bound


def _meetings(v: Tensor, w: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the theta where each entry of v - theta w enters the box, and where it leaves it."""
    divisor = torch.where(w == 0, 1, w)
    one, other = (v - high) / divisor, (v - low) / divisor
    nowhere = torch.full_like(one, torch.inf)
    return (
        torch.where(w == 0, nowhere, torch.minimum(one, other)),
        torch.where(w == 0, -nowhere, torch.maximum(one, other)),
    )


def _interval(v: Tensor, w: Tensor, low: Tensor, high: Tensor, total: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends of the interval of theta that holds the root."""

    def value(theta: Tensor) -> Tensor:
        inside = torch.maximum(torch.minimum(v - theta * w, high), low)
        return torch.where(w == 0, 0, w * inside).sum(-1, keepdim=True)

    ends = torch.cat(_meetings(v, w, low, high), dim=-1).sort(dim=-1).values
    outer = torch.full_like(ends[..., :1], torch.inf)
    ends = torch.cat([-outer, ends, outer], dim=-1)
    # <w, x> falls with theta: the last end where it is still at least the total, by bisection.
    below = torch.zeros_like(outer, dtype=torch.int64)
    above = below + ends.shape[-1] - 1
    for _ in range((ends.shape[-1] - 1).bit_length()):
        middle = (below + above) // 2
        enough = value(ends.gather(-1, middle)) >= total
        below, above = torch.where(enough, middle, below), torch.where(enough, above, middle)
    return ends.gather(-1, below), ends.gather(-1, (below + 1).clamp(max=ends.shape[-1] - 1))
