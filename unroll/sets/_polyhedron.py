"""Polyhedra given by their rows."""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

from unroll._proximal import without_autocast
from unroll.sets._base import Search, SetProjector, check_length

logger = logging.getLogger(__name__)


class Polyhedron(SetProjector):
    """Projection onto {x : A x <= b}: v - A_S^+ (A_S v - b_S), S the rows that hold v back.

    S is found by the dual active-set method of Goldfarb and Idnani, which ends after finitely many steps with the exact
    S: about |S| of them, for all of the batch at once.

    Args:
        matrix: A, (m, n); no row may be 0.
        b: (m,).
        tol: by how much a row may be violated, relative to 1 + max |x| + max |b|, rows being normalised.
        max_steps: where the search gives up, with a warning (logging) that says so; None is 10 (m + 1).

    Shapes: vectors (..., n) along the last dimension, the others are batch. Real; computed in double precision. The
    derivative is exact, that of the projection with S fixed. Cost: one system of size m for each step and vector.

    Raises ValueError where no x has A x <= b.

    Source: D. Goldfarb and A. Idnani, "A numerically stable dual method for solving strictly convex quadratic
    programs", 1983.
    """

    matrix: Tensor
    b: Tensor

    def __init__(self, matrix: Tensor, b: Tensor, *, tol: float = 1e-10, max_steps: int | None = None) -> None:
        super().__init__()
        if matrix.ndim != 2 or b.shape != matrix.shape[:1]:
            raise ValueError(
                f"Polyhedron takes a matrix (m, n) and b (m,), got {tuple(matrix.shape)} and {tuple(b.shape)}"
            )
        if not tol > 0:
            raise ValueError(f"tol must be above 0, got {tol}")
        size = torch.linalg.vector_norm(matrix.double(), dim=1)
        if not bool((size > 0).all()):
            raise ValueError("no row of the matrix may be 0")
        self.register_buffer("matrix", matrix.double() / size[:, None], persistent=False)
        self.register_buffer("b", b.double() / size, persistent=False)
        self.tol, self.max_steps = tol, max_steps or 10 * (len(b) + 1)
        with without_autocast(matrix):
            _holding(self.matrix @ self.matrix.mT, -self.b, tol, self.max_steps)

    def project(self, v: Tensor) -> Tensor:
        """Return the nearest point with A x <= b."""
        check_length(self, v, tuple(self.matrix.shape[1:]))
        rows, b = (buffer.to(device=v.device, dtype=torch.float64) for buffer in (self.matrix, self.b))
        x = v.double()
        search = functools.partial(_active, rows, b, tol=self.tol, max_steps=self.max_steps)
        return _onto(rows, b, Search.apply(search, x.detach()), x)


def _onto(rows: Tensor, b: Tensor, active: Tensor, v: Tensor) -> Tensor:
    """Return the projection onto A_S x = b_S; the rows of S, those that are active, are linearly independent."""
    system = active[..., :, None] * (rows @ rows.mT) * active[..., None, :] + torch.diag_embed(1 - active)
    # The second time takes away what the first one has left by rounding.
    for _ in range(2):
        excess = active * (v @ rows.mT - b)
        v = v - torch.linalg.solve(system, excess[..., None])[..., 0] @ rows
    return v


@torch.no_grad()
def _active(rows: Tensor, b: Tensor, v: Tensor, tol: float, max_steps: int) -> Tensor:
    """Return which rows hold v back, as 0 and 1.

    Seen from afar, some are too small to be seen: v is moved towards its projection x until they are not. All points
    from x to v have the same projection.
    """
    gram = rows @ rows.mT
    active = _holding(gram, v @ rows.mT - b, tol, max_steps)
    for _ in range(3):
        x = _onto(rows, b, active, v)
        over = (x @ rows.mT - b).amax(-1, keepdim=True)
        unseen = over > tol * (1 + b.abs().amax() + x.abs().amax(-1, keepdim=True))
        if not bool(unseen.any()):
            break
        length = torch.linalg.vector_norm(v - x, dim=-1, keepdim=True)
        near = x + (over.clamp(min=0) / length).sqrt().clamp(max=1) * (v - x)
        active = torch.where(unseen, _holding(gram, near @ rows.mT - b, tol, max_steps), active)
    return active


def _holding(gram: Tensor, excess: Tensor, tol: float, max_steps: int) -> Tensor:
    """Return 1 for the rows with a multiplier above 0 and 0 for the others, from A A^T (m, m) and h = A v - b (..., m).

    The multipliers are u >= 0, x = v - A^T u, so rows are violated by h - A A^T u. Of the rows S that hold, u solves
    the system; the row p that is violated most enters: u_p grows, and u_S with it so that S still holds, until p holds
    too or some u_i is 0, whose row leaves. Where p depends on S, only the latter can happen.
    """
    h = excess.reshape(-1, excess.shape[-1])
    bound = tol * h.clamp(min=0).amax(-1, keepdim=True)
    one = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    u, held = torch.zeros_like(h), torch.zeros_like(h, dtype=torch.bool)
    p = torch.zeros_like(h[:, :1], dtype=torch.int64)
    entering = torch.zeros_like(p, dtype=torch.bool)
    for _ in range(max_steps):
        pair = (held[:, :, None] & held[:, None, :]).to(h)
        system = torch.linalg.lu_factor_ex(pair * gram + (~held).to(h)[:, None] * one)[:2]
        exact = torch.linalg.lu_solve(*system, (held * h)[..., None])[..., 0]
        u = torch.where(entering, u, exact.clamp(min=0))
        violation = torch.where(held, -torch.inf, h - u @ gram)
        p = torch.where(entering, p, violation.argmax(-1, keepdim=True))
        entering = entering | (violation.gather(-1, p) > bound)
        if not bool(entering.any()):
            break
        column = gram[p[:, 0]]
        fall = torch.linalg.lu_solve(*system, (held * column)[..., None])[..., 0]
        free = 1 - (fall * column).sum(-1, keepdim=True)  # the square of what is left of row p outside the span of S
        reach = torch.where(free > 1e-11, violation.gather(-1, p) / free, torch.inf)
        times = torch.where(held & (fall > 1e-12), u / torch.where(fall > 1e-12, fall, 1), torch.inf)
        soonest, leaver = times.min(-1, keepdim=True)
        step = torch.where(entering, torch.minimum(soonest, reach), 0)
        if bool(step.isinf().any()):
            raise ValueError("the polyhedron is empty: no x has A x <= b")
        u = (u - step * fall).clamp(min=0).scatter_add(-1, p, step)
        leaves = entering & (soonest < reach)
        held = held & ~(leaves & torch.zeros_like(held).scatter(-1, leaver, True))
        held = held | (entering & ~leaves & torch.zeros_like(held).scatter(-1, p, True))
        u = u.masked_fill(leaves & torch.zeros_like(held).scatter(-1, leaver, True), 0)
        entering = entering & leaves
    else:
        logger.warning("Polyhedron stopped after %d steps (max_steps): some rows may still be violated", max_steps)
    return (held & (u > 0)).to(h).reshape(excess.shape)
