"""Upper bounds of spectra: one proven by positive vectors, one by Lanczos with a probability."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch
from torch import Tensor


def perron_bound(absolute_product: Callable[[Tensor], Tensor], start: Tensor, steps: int = 10) -> float:
    """Return min_u max_i (|L| u)_i / u_i >= the largest eigenvalue of L, over power iterates u > 0 of |L|.

    Any positive u proves its own bound (Collatz and Wielandt), u = 1 that of Gershgorin; it tends to the spectral
    radius of |L|, which is that of L itself for bipartite graphs and above it for others.
    """
    u, bound = start, math.inf
    for _ in range(steps):
        product = absolute_product(u)
        bound = min(bound, float((product / u).max()))
        if not bound > 0:
            break
        # Far from its peak the iterate underflows; any positive number there proves a bound as well.
        u = (product / product.max()).clamp_min(1e-6)
    return bound * (1 + 4096 * torch.finfo(start.dtype).eps)  # for the rounding of the products


def lanczos_bound(
    step: Callable[[Tensor, Tensor, float], Tensor], start: Tensor, rtol: float, failure: float, bound: float
) -> float:
    """Return theta / (1 - rtol) for the largest Ritz value theta of Lanczos; see :meth:`graphs.Laplacian.tightened`.

    ``step(x, z, c)`` is L x + c z for planes (1, n) like ``start``, and ``bound`` any upper bound of the spectrum.
    """
    if not (0 < rtol < 1 and 0 < failure < 1):
        raise ValueError(f"rtol and failure must lie between 0 and 1, got {rtol} and {failure}")
    steps = math.ceil((math.log(1.648 * math.sqrt(start.numel()) / failure) / math.sqrt(rtol) + 1) / 2)
    newer = start / torch.linalg.vector_norm(start)
    older, beta = torch.zeros_like(newer), 0.0
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    for _ in range(steps):
        product = step(newer, older, -beta)
        alpha = float((product * newer).sum())
        product.sub_(newer, alpha=alpha)
        diagonal.append(alpha)
        beta = float(torch.linalg.vector_norm(product))
        if not beta > 1e-12 * bound:  # an invariant subspace: theta is the largest eigenvalue
            break
        off_diagonal.append(beta)
        older, newer = newer, product / beta
    ritz = scipy.linalg.eigvalsh_tridiagonal(np.array(diagonal), np.array(off_diagonal[: len(diagonal) - 1]))
    return float(ritz[-1]) / (1 - rtol)
