"""The part of a box that lies in a hyperplane."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from unroll._proximal import hold, like
from unroll.sets._base import Search, SetProjector, check_length

_ROUNDS, _STEPS = 4, 200


class BoxSection(SetProjector):
    """Projection onto {x : low <= x <= high, <w, x> = c}: clip(v - theta w), theta such that <w, x> = c.

    Args:
        low, high: numbers, or tensors that broadcast against the vectors; infinite bounds are none.
        weights: w, (n,), of any sign; 0 leaves an entry to the box alone.
        total: c, a number, or a tensor that broadcasts against (..., 1).

    Shapes: vectors (..., n) along the last dimension, the others are batch. Real. Exact: Newton's method, safeguarded
    by bisection, finds which entries are at their bounds, and theta is then a quotient. Cost: O(n) for each of some ten
    steps. theta is found in several summands, so that a common offset of 1e9 costs no digit.

    Raises ValueError where low > high or no point of the box has <w, x> = c.

    Source: K. Kiwiel, "Breakpoint searching algorithms for the continuous quadratic knapsack problem", 2008, for the
    problem; R. Cominetti, W. Mascarenhas and P. Silva, "A Newton's method for the continuous quadratic knapsack
    problem", 2014.
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
        w = self.weights.to(v)
        low, high, total = like(self.low, v), like(self.high, v), like(self.total, v)
        bounds = (torch.as_tensor(bound, dtype=v.dtype, device=v.device) for bound in (low, high, total))
        thetas = Search.apply(_thetas, v.detach(), w.detach(), *(bound.detach() for bound in bounds))
        # The result does not depend on where theta is counted from, so that its gradient need not either.
        moved = v
        for theta in thetas.split(1, dim=-1):
            moved = torch.addcmul(moved, theta, w.detach(), value=-1)
        x = _clip(moved, low, high)
        inside = (moved == x).to(v)
        square = _product(inside, w.square())
        excess = _product(x, w) - total
        return _clip(torch.addcmul(x, inside * w, excess / torch.where(square > 0, square, 1), value=-1), low, high)


def _clip(v: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return v.clamp(min=low).clamp(max=high)
    return v.clamp(low, high)


def _product(x: Tensor, w: Tensor) -> Tensor:
    """Return <w, x>, (..., 1); w has more than one dimension under vmap alone."""
    product: Tensor = x @ w if w.ndim == 1 else (x * w).sum(-1)
    return product[..., None]


def _thetas(v: Tensor, w: Tensor, least: Tensor, most: Tensor, total: Tensor) -> Tensor:
    """Return the summands of theta, (..., k): each is counted from where those before it have moved v to."""
    v = v.expand(np.broadcast_shapes(*(z.shape for z in (v, w, least, most, total))))
    low, high = (float(b) for b in (least, most)) if least.ndim == most.ndim == 0 else (least, most)
    found: list[Tensor] = []
    while not found or (len(found) < _ROUNDS and bool(found[-1].any())):
        found.append(_newton(v, w, low, high, total))
        v = torch.addcmul(v, found[-1], w, value=-1)
    return torch.cat(found, dim=-1)


def _newton(v: Tensor, w: Tensor, low: Any, high: Any, total: Tensor) -> Tensor:
    """Return the theta where <w, clip(v - theta w)> = total but for rounding, in the dtype of v.

    That sum falls with theta, in straight pieces. The step of Newton leads to the root of the present piece. Where it
    leaves the interval that holds the root, or takes long, the middle of that is next; while that has no other end, a
    theta beyond which all is one piece.
    """
    theta = torch.zeros_like(v[..., :1])
    lower, upper = torch.full_like(theta, -torch.inf), torch.full_like(theta, torch.inf)
    squares, ends, slack = w.square(), None, None
    point, x = torch.empty_like(v), torch.empty_like(v)  # the same memory for every step: to ask for it takes longer
    for step in range(_STEPS):
        torch.addcmul(v, theta, w, value=-1, out=point)
        torch.clamp(point, low, high, out=x)
        excess = _product(x, w) - total
        if slack is None:
            slack = 8 * torch.finfo(v.dtype).eps * (_product(x.abs(), w.abs()) + total.abs())
        late = excess.abs() > slack
        lower, upper = torch.where(excess > 0, theta, lower), torch.where(excess < 0, theta, upper)
        following = theta + excess / _product(point.eq_(x), squares)
        late = late & (following != theta)  # else it is as near as its digits allow
        outside = late & ~((following > lower) & (following < upper))
        held = lower.isfinite() & upper.isfinite()
        if step > 10 and step % 3 == 0:
            outside = late & held
        if bool(outside.any()):
            following = torch.where(outside, (lower + upper) / 2, following)
            if bool((outside & ~held).any()):
                ends = ends or _ends(v, w, low, high)
                following = torch.where(outside & ~held, torch.where(excess > 0, ends[1], ends[0]), following)
        late = late & (following > lower) & (following < upper)
        if not bool(late.any()):
            break
        theta = torch.where(late, following, theta)
    return theta


def _ends(v: Tensor, w: Tensor, low: Any, high: Any) -> tuple[Tensor, Tensor]:
    """Return a theta below, and one above, all those where an entry of v - theta w meets a bound."""
    meetings = torch.cat([(v - low) / w, (v - high) / w], dim=-1)
    nowhere = ~meetings.isfinite()
    ends = (
        meetings.masked_fill(nowhere, torch.inf).amin(-1, keepdim=True),
        meetings.masked_fill(nowhere, -torch.inf).amax(-1, keepdim=True),
    )
    margin = 8 * torch.finfo(v.dtype).eps * (ends[0].abs() + ends[1].abs())
    return ends[0] - margin, ends[1] + margin
