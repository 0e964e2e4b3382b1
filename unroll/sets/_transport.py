"""Transport plans, and doubly stochastic matrices."""

from __future__ import annotations

import functools
import logging
import math

import torch
from torch import Tensor

from unroll._proximal import at_least_zero, hold
from unroll.sets._base import Search, SetProjector, check_length
from unroll.sets._simplex import onto_simplex

logger = logging.getLogger(__name__)


class TransportPolytope(SetProjector):
    """Projection onto {X >= 0 : X 1 = rows, X^T 1 = columns}, the plans that carry one mass to another.

    X = max(V - a 1^T - 1 b^T, 0), where the multipliers a, b come from a semismooth Newton method on the dual, for all
    of the batch at once. Not Sinkhorn's scaling, which projects in the sense of the entropy. Where X is not 0 is then
    fixed, and X is computed from it in closed form: so the derivative is exact.

    Args:
        rows: (m,), >= 0; ``columns``: (n,), >= 0, of the same sum.
        tol: the search ends where the sums of rows and columns are right up to ``tol`` times the largest of them.
        max_iter: of Newton steps, where it gives up with a warning (logging) that says what was reached.

    Shapes: matrices (..., m, n) in the last two dimensions, the others are batch. Real; computed in double precision.
    Cost: a linear system of size m + n for each matrix and Newton step, of which there are some 10 to 20; where V is
    larger than the sums, some more for each power of 10.

    Source: X. Li, D. Sun, K.-C. Toh, "On the efficient computation of a generalized Jacobian of the projector over the
    Birkhoff polytope", 2020; M. Blondel, V. Seguy, A. Rolet, "Smooth and sparse optimal transport", 2018 (the dual).
    """

    point_dims = 2
    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor, *, tol: float = 1e-10, max_iter: int = 100) -> None:
        super().__init__()
        if rows.ndim != 1 or columns.ndim != 1:
            raise ValueError(
                f"rows and columns must be vectors (m,) and (n,), got {tuple(rows.shape)} and {tuple(columns.shape)}"
            )
        at_least_zero("rows", rows)
        at_least_zero("columns", columns)
        masses = [float(sums.sum()) for sums in (rows, columns)]
        if not (abs(masses[0] - masses[1]) <= 1e-6 * max(masses) and masses[0] > 0):
            raise ValueError(f"rows and columns must have the same sum, above 0, got {masses[0]} and {masses[1]}")
        if not tol > 0 or max_iter < 1:
            raise ValueError(f"tol must be above 0 and max_iter at least 1, got {tol} and {max_iter}")
        self.tol, self.max_iter = tol, max_iter
        hold(self, rows=rows, columns=columns)

    def project(self, v: Tensor) -> Tensor:
        """Return the nearest plan."""
        check_length(self, v, (len(self.rows), len(self.columns)))
        rows, columns = (sums.to(device=v.device, dtype=torch.float64) for sums in (self.rows, self.columns))
        columns = columns * (rows.sum() / columns.sum())
        x = v.double()
        # Multipliers that bring every row near 0: digits of large common parts are not lost, the result is the same.
        with torch.no_grad():
            offset = x.amax(-1, keepdim=True)
            offset = offset + (x - offset).amax(-2, keepdim=True)
        x = x - offset
        search = functools.partial(_support, tol=self.tol, max_iter=self.max_iter)
        support = Search.apply(search, x.detach(), rows.detach(), columns.detach())
        held = support > 0
        multipliers = torch.linalg.pinv(_coupling(support), rtol=1e-10, hermitian=True)
        # The second time takes away what the first one has left by rounding.
        for _ in range(2):
            kept = torch.where(held, x, 0)
            wrong = torch.cat([kept.sum(-1) - rows, kept.sum(-2) - columns], dim=-1)
            ab = (multipliers @ wrong[..., None])[..., 0]
            x = torch.where(held, x - (ab[..., : len(rows), None] + ab[..., None, len(rows) :]), 0)
        return x.relu().to(v.dtype)


class Birkhoff(TransportPolytope):
    """Projection onto the doubly stochastic matrices {X >= 0 : X 1 = 1, X^T 1 = 1} of size n.

    Shapes: (..., n, n). Arguments, method, cost and source as for :class:`TransportPolytope`.
    """

    def __init__(self, n: int, *, tol: float = 1e-10, max_iter: int = 100) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        super().__init__(torch.ones(n), torch.ones(n), tol=tol, max_iter=max_iter)


def _coupling(support: Tensor) -> Tensor:
    """Return the Hessian of the dual, [[diag S 1, S], [S^T, diag S^T 1]], (..., m + n, m + n)."""
    top = torch.cat([torch.diag_embed(support.sum(-1)), support], dim=-1)
    return torch.cat([top, torch.cat([support.mT, torch.diag_embed(support.sum(-2))], dim=-1)], dim=-2)


@torch.no_grad()
def _support(v: Tensor, rows: Tensor, columns: Tensor, tol: float, max_iter: int) -> Tensor:
    """Return where the projection is above 0, as 0 and 1.

    Where V is large against the sums, this is nearly a linear program, and Newton's method far from home. So the sums
    are first made as large as V, and come back by factors of 10, each solution near the next one.
    """
    shape, m = v.shape, len(rows)
    v, sums = v.reshape(-1, *shape[-2:]), torch.cat([rows, columns])
    mass = sums.max()
    size = v.abs().amax((-2, -1))
    spread = (size / mass).clamp(min=1)
    # The multipliers of the rows alone.
    x = onto_simplex(v, spread[:, None, None] * rows[:, None])
    best = x.argmax(-1, keepdim=True)
    y = torch.cat([(v - x).gather(-1, best)[..., 0], torch.zeros_like(v[:, 0])], dim=-1)
    stages = math.ceil(math.log10(float(spread.max()))) if len(v) and bool(spread.isfinite().all()) else 0
    for stage in range(stages, -1, -1):
        large = spread ** (stage / max(stages, 1))
        # Below the last summand is what rounding leaves, however long one iterates.
        rounding = 8 * torch.finfo(v.dtype).eps * max(shape[-2:]) * (mass + size)
        bound = (tol if stage == 0 else 0.01) * large * mass + rounding
        y, wrong = _newton(v, y, large[:, None] * sums, m, bound, max_iter)
    if bool((wrong > bound).any()):
        logger.warning(
            "the projection onto transport plans stopped after max_iter=%d Newton steps: sums are wrong by up to %.1e",
            max_iter,
            float(wrong.max()),
        )
    return (v > y[:, :m, None] + y[:, None, m:]).to(v).reshape(shape)


def _newton(v: Tensor, y: Tensor, sums: Tensor, m: int, bound: Tensor, max_iter: int) -> tuple[Tensor, Tensor]:
    """Return y and the largest error of the sums, after Newton's method on the dual of matrices (B, m, n).

    The dual, to be minimised over y = (a, b): 1/2 || max(V - a 1^T - 1 b^T, 0) ||^2 + <rows, a> + <columns, b>.
    """
    mass = sums.amax(-1)
    one = torch.eye(sums.shape[-1], dtype=v.dtype, device=v.device)

    def plan(y: Tensor) -> Tensor:
        return (v - (y[:, :m, None] + y[:, None, m:])).relu()

    x = plan(y)
    for iteration in range(max_iter + 1):
        gradient = sums - torch.cat([x.sum(-1), x.sum(-2)], dim=-1)
        wrong = gradient.abs().amax(-1)
        late = wrong > bound
        if iteration == max_iter or not bool(late.any()):
            break
        ridge = (1e-3 * wrong / mass).clamp(1e-12, 1e-3)
        hessian = _coupling((x > 0).to(v)) + ridge[:, None, None] * one
        d = torch.linalg.solve_ex(hessian, -gradient[..., None]).result[..., 0]
        d = torch.where(late[:, None], d, 0)
        slope = (d * gradient).sum(-1)
        step = torch.ones_like(slope)
        for _ in range(40):
            other = plan(y + step[:, None] * d)
            gain = ((other - x) * (other + x)).sum((-2, -1)) / 2 + step * (d * sums).sum(-1)
            short = gain > 1e-4 * step * slope + 1e-14 * (x.square().sum((-2, -1)) + mass * mass)
            if not bool(short.any()):
                break
            step = torch.where(short, step / 2, step)
        y = y + step[:, None] * d
        x = plan(y)
    return y, wrong
