"""The low end of a spectrum: eigenpairs, how many there are below a cutoff, and the cutoff that leaves k."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from scipy import sparse
from scipy.sparse import linalg
from torch import Tensor

from graphs import _chebyshev
from graphs._coarse import symmetric_factor
from graphs._laplacian import FloatArray, Laplacian


class Eigenbasis(NamedTuple):
    """The lowest k eigenpairs of a Laplacian: ``eigenvalues`` (k,) ascending, orthonormal ``vectors`` U_k (n, k)."""

    eigenvalues: Tensor
    vectors: Tensor


class EigenCount(NamedTuple):
    """An estimated number of eigenvalues and the standard error of the estimate."""

    estimate: float
    standard_error: float


def dimension(k: float, n: int) -> int:
    """Return k as a number of eigenvectors of n: an integer is itself, a float in (0, 1) a fraction of n, at least one.

    Raises ValueError for k < 1, k > n and anything else.
    """
    if isinstance(k, float) and 0 < k < 1:
        return max(1, round(k * n))
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n:
        raise ValueError(f"k must be an integer from 1 to n = {n} or a fraction of n in (0, 1), got {k!r}")
    return int(k)


def eigenbasis(laplacian: Laplacian, k: int | float, *, dtype: torch.dtype = torch.float64) -> Eigenbasis:
    """Return the lowest k eigenpairs, L U_k = U_k diag(eigenvalues), on the CPU.

    k is an integer, or a float in (0, 1) for that fraction of n. Computed in float64, verified, then rounded to
    ``dtype``. A multiple eigenvalue cut by k leaves the span of U_k to chance.

    Method: LAPACK for n <= 1500 or k > n / 4; above, Lanczos (ARPACK) on (L + s)^-1 with a small s > 0, factored once
    with a symmetric minimum-degree ordering. Memory: n k numbers and the factor; minutes beyond 10^5 nodes. Raises
    ValueError for a bad k, RuntimeError where ||L u - lambda u|| > 1e-6 lambda_max or U^T U differs from the identity
    by more than 1e-6.
    """
    n, k = laplacian.n, dimension(k, laplacian.n)
    matrix = laplacian.to_scipy()
    if n <= 1500 or 4 * k > n:
        values, vectors = scipy.linalg.eigh(matrix.toarray(), subset_by_index=[0, k - 1])
    else:
        values, vectors = _shift_invert(matrix, k, laplacian.lambda_max)
    residual = float(np.linalg.norm(matrix @ vectors - vectors * values, axis=0).max())
    defect = float(np.abs(vectors.T @ vectors - np.eye(k)).max())
    if not (residual <= 1e-6 * laplacian.lambda_max and defect <= 1e-6):
        raise RuntimeError(
            f"the eigenpairs missed their tolerance: residual {residual:.1e}, lambda_max {laplacian.lambda_max:.3g}, "
            f"|U^T U - I| {defect:.1e}; try a smaller k than {k}"
        )
    return Eigenbasis(torch.from_numpy(values).to(dtype), torch.from_numpy(np.ascontiguousarray(vectors)).to(dtype))


def _shift_invert(matrix: sparse.csr_array, k: int, scale: float) -> tuple[FloatArray, FloatArray]:
    """Lanczos on the inverse, shifted below zero, where L itself is singular."""
    n, shift = matrix.shape[0], -1e-6 * scale
    shifted = sparse.csc_array(matrix - shift * sparse.eye_array(n))
    factor = symmetric_factor(shifted)
    inverse = linalg.LinearOperator((n, n), matvec=factor.solve, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)
    values, vectors = linalg.eigsh(matrix, k, sigma=shift, OPinv=inverse, v0=start, which="LM")
    order = np.argsort(values)
    return values[order], vectors[:, order]


def eigencount(laplacian: Laplacian, cutoff: float, *, order: int = 400, probes: int = 8, seed: int = 0) -> EigenCount:
    """Estimate how many eigenvalues lie at or below ``cutoff``: the mean of <z, h(L) z> over random signs z.

    h is the Jackson-Chebyshev low-pass of that order (even), whose edge is smoothed: from ``lambda_max`` (pi / order)^2
    / 4 on it resolves the low end. Cost: order / 2 matvecs of ``probes`` channels; ``seed`` seeds the generator of the
    probes. The standard error is that of the probes alone, at most about sqrt(2 count / probes).

    Source: E. Di Napoli, E. Polizzi, Y. Saad, "Efficient estimation of eigenvalue counts in an interval", 2016.
    """
    if not cutoff >= 0:
        raise ValueError(f"the cutoff must be at least 0, got {cutoff}")
    found = sign_moments(laplacian, order, probes, seed)
    return _count(found, cutoff / laplacian.lambda_max if laplacian.lambda_max else 1.0)


def cutoff_for(laplacian: Laplacian, k: int | float, *, order: int = 400, probes: int = 8, seed: int = 0) -> float:
    """Estimate the cutoff below which k eigenvalues lie (k an integer, or a fraction of n in (0, 1)).

    Bisection in log(cutoff) of :func:`eigencount`, which grows with the cutoff since the damping kernel is positive;
    the moments of the probes do not depend on the cutoff and are computed once. Arguments and cost as there.
    """
    k = dimension(k, laplacian.n)
    if k == laplacian.n:
        return laplacian.lambda_max
    found = sign_moments(laplacian, order, probes, seed)
    low, high = math.log(1e-12), 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if _count(found, math.exp(middle)).estimate < k else (low, middle)
    return laplacian.lambda_max * math.exp((low + high) / 2)


def sign_moments(laplacian: Laplacian, order: int, probes: int, seed: int) -> FloatArray:
    """Return <z, T_m(2 L / lambda_max - 1) z> for m = 0 to ``order`` and each of some random signs z, (probes, ..)."""
    if order < 2 or probes < 2:
        raise ValueError(f"order and probes must be at least 2, got {order} and {probes}")
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (probes, laplacian.n), generator=generator).mul_(2).sub_(1)
    return _chebyshev.moments(laplacian, signs.to(laplacian.device, torch.float32), order // 2)


def _count(moments: FloatArray, fraction: float) -> EigenCount:
    traces = moments @ _chebyshev.low_pass(fraction, moments.shape[1] - 1)
    return EigenCount(float(traces.mean()), float(traces.std(ddof=1) / math.sqrt(len(traces))))
