"""Sets, each as a predicate and a way to make any signal a point of it, without the projectors' help."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor


class Set(NamedTuple):
    """A closed set: ``contains(x)``, and ``point(z)`` that makes any signal z a point of it, not the nearest."""

    contains: Callable[[Tensor], bool]
    point: Callable[[Tensor], Tensor]


def below(x: Tensor, bound: float | Tensor, slack: float = 1e-9) -> bool:
    """Return whether x <= bound but for rounding."""
    bound = torch.as_tensor(bound, dtype=torch.float64)
    scale = max(1.0, float(torch.where(bound.isfinite(), bound, 0).abs().max()))
    return bool((x <= bound + slack * scale).all())


def equal(x: Tensor, value: float | Tensor, slack: float = 1e-9) -> bool:
    """Return whether x = value but for rounding."""
    scale = max(1.0, float(torch.as_tensor(value).abs().max()))
    return float((x - value).abs().max()) <= slack * scale


def span(basis: Tensor) -> Set:
    """Return the span of orthonormal columns (n, k), of signals with n entries in all, or n in the last dimensions."""
    n, k = basis.shape

    def contains(x: Tensor) -> bool:
        columns = x.reshape(-1, n).T
        rest = columns - basis @ torch.linalg.lstsq(basis, columns).solution
        return float(rest.abs().max()) <= 1e-8 * max(1.0, float(columns.abs().max()))

    return Set(contains, lambda z: (z.reshape(-1, n)[:, :k] @ basis.T).reshape(z.shape))


def moved(inside: Set, guide: Tensor) -> Set:
    """Return guide + set."""
    return Set(lambda x: inside.contains(x - guide), lambda z: guide + inside.point(z))


def ball(norm: Callable[[Tensor], Tensor], radius: float) -> Set:
    """Return {x : norm(x) <= radius}; the norms keep a dimension of length 1."""
    return Set(lambda x: below(norm(x), radius), lambda z: radius * z / (1 + norm(z)))


def sphere(norm: Callable[[Tensor], Tensor], radius: float) -> Set:
    """Return {x : norm(x) = radius}."""

    def point(z: Tensor) -> Tensor:
        z = torch.where(norm(z) > 0, z, 1)
        return radius * z / norm(z)

    return Set(lambda x: equal(norm(x), radius), point)


def simplex(total: float, slack: float = 1e-9) -> Set:
    """Return {x >= 0 : sum x = total}."""
    return Set(lambda x: below(-x, 0, slack) and equal(x.sum(-1), total, slack), lambda z: total * z.softmax(-1))


def rows(matrix: Tensor, low: Tensor, high: Tensor) -> Set:
    """Return {x : low <= A x <= high} of vectors or, flattened, matrices; bounds may be infinite.

    Its points are mixtures of some vertices, which linear programming finds.
    """
    generator = np.random.default_rng(0)
    costs = generator.normal(size=(6, matrix.shape[1]))
    finite = [bound.isfinite().numpy() for bound in (low, high)]
    a = np.concatenate([-matrix.numpy()[finite[0]], matrix.numpy()[finite[1]]])
    b = np.concatenate([-low.numpy()[finite[0]], high.numpy()[finite[1]]])
    found = [linprog(cost, a, b, bounds=(-10, 10)).x for cost in costs]
    vertices = torch.from_numpy(np.stack(found))

    def contains(x: Tensor) -> bool:
        image = x.reshape(-1, matrix.shape[1]) @ matrix.T
        return below(image, high) and below(-image, -low)

    def point(z: Tensor) -> Tensor:
        return (z.reshape(-1, matrix.shape[1])[:, :6].softmax(-1) @ vertices).reshape(z.shape)

    return Set(contains, point)


def plans(sums: Tensor, others: Tensor) -> Set:
    """Return the transport plans with these sums of rows and of columns."""
    m, n = len(sums), len(others)
    eye_m, eye_n = torch.eye(m, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    ones_m, ones_n = torch.ones(1, m, dtype=torch.float64), torch.ones(1, n, dtype=torch.float64)
    matrix = torch.cat([torch.kron(eye_m, ones_n), torch.kron(ones_m, eye_n), torch.eye(m * n, dtype=torch.float64)])
    fixed = torch.cat([sums, others])
    low = torch.cat([fixed, torch.zeros(m * n, dtype=torch.float64)])
    return rows(matrix, low, torch.cat([fixed, torch.full((m * n,), torch.inf, dtype=torch.float64)]))
