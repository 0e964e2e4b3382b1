"""The low end of a spectrum: eigenpairs, how many there are below a cutoff, and the cutoff that leaves k."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from graphs import _chebyshev
from graphs._eigensolver import gram, lowest_pairs
from graphs._inertia import inertia_count
from graphs._laplacian import FloatArray, Laplacian
from graphs._memory import require_memory
from graphs._threads import one_blas_thread


class Eigenbasis(NamedTuple):
    """The lowest k eigenpairs of a Laplacian: ``eigenvalues`` (k,) ascending, orthonormal ``vectors`` U_k (n, k)."""

    eigenvalues: Tensor
    vectors: Tensor


class EigenCount(NamedTuple):
    """A number of eigenvalues and the standard error of the estimate, 0 where it is exact."""

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


def eigenbasis(
    laplacian: Laplacian,
    k: int | float,
    *,
    tol: float = 1e-6,
    dtype: torch.dtype = torch.float64,
    progress: bool = False,
) -> Eigenbasis:
    """Return the lowest k eigenpairs, L U_k = U_k diag(eigenvalues), on the CPU.

    k is an integer, or a float in (0, 1) for that fraction of n. Computed in float64, verified, then rounded to
    ``dtype``. ``tol`` bounds the residuals ||L u - lambda u|| over ``lambda_max``; the eigenvalues are much closer, for
    their error is of its square. ``progress`` shows a bar of the pairs found. A multiple eigenvalue cut by k leaves the
    span of U_k to chance; the constant of each component (D^1/2 1 where normalised) is exact.

    Method: LAPACK for n <= 2000 or k > n / 8, where it is as fast or faster. Above, block Lanczos on (L + s)^-1 with a
    small s > 0, factored once: by nested dissection where the nodes are a grid with a short stencil
    (:func:`graphs.matting`, :func:`graphs.grid`), by SuperLU on other graphs. It stops at ``tol`` and not at the last
    digit, and works on 16 vectors at a time, at the speed of matrix products, shared among as many plain threads as
    torch has; meanwhile BLAS is held to one thread in the whole process, for its own would spin between such products.
    Against scipy's ``eigsh`` with ``sigma`` and its defaults, in one process with one thread each: 6 to 9 times as fast
    for k = 200 and matting of 256 x 256 pixels (4 times as fast as ``eigsh`` with SuperLU in a better ordering), 3
    times for k = 100 and 10^4 pixels, 1.2 to 2.7 times for k = 100 and 10^4 points with 8 neighbours in 2 to 5
    dimensions. Spaces grown from a block may pass by copies of a multiple eigenvalue, so that fresh random vectors look
    for any that were missed, before it returns.

    Memory: some 2.5 k vectors and the factor (7.6 GB for k = 200 and a megapixel). Raises ValueError for a bad k or
    tol, MemoryError, before it begins, where memory will not suffice, RuntimeError where the residuals miss tol or
    U^T U the identity by 1e-6.

    Sources: G. Golub, R. Underwood, "The block Lanczos method for computing eigenvalues", 1977; A. George, "Nested
    dissection of a regular finite element mesh", 1973.
    """
    n, k = laplacian.n, dimension(k, laplacian.n)
    if not 0 < tol < 1:
        raise ValueError(f"tol, relative to lambda_max, must lie between 0 and 1, got {tol}")
    found = None
    if n > 2000 and 8 * k <= n:
        with one_blas_thread():
            found = lowest_pairs(laplacian, k, tol * laplacian.lambda_max, progress)
    values, rows = _dense(laplacian, k) if found is None else found
    with one_blas_thread():
        _verify(laplacian, values, rows, tol)
    vectors = torch.empty((n, k), dtype=dtype).copy_(torch.from_numpy(rows).T)
    return Eigenbasis(torch.from_numpy(values).to(dtype), vectors)


def _dense(laplacian: Laplacian, k: int) -> tuple[FloatArray, FloatArray]:
    require_memory(
        24.0 * laplacian.n**2,
        f"a dense eigenproblem of {laplacian.n} nodes",
        "take a smaller graph, or k below an eighth of it",
    )
    values, vectors = scipy.linalg.eigh(laplacian.to_scipy().toarray(), subset_by_index=[0, k - 1])
    return values, vectors.T


def _verify(laplacian: Laplacian, values: FloatArray, rows: FloatArray, tol: float) -> None:
    """Raise RuntimeError where the eigenpairs, vectors in rows, are not those of L to the tolerance."""
    k, residual, scale = len(values), 0.0, laplacian.lambda_max
    for some in np.array_split(np.arange(k), -(-k // 16)):
        planes = torch.from_numpy(np.ascontiguousarray(rows[some]))
        miss = laplacian.combine(planes) - torch.from_numpy(values[some, None]) * planes
        residual = max(residual, float(torch.linalg.vector_norm(miss, dim=1).max()))
    defect = float(np.abs(gram(rows, rows) - np.eye(k)).max())
    if not (residual <= tol * scale and defect <= 1e-6):
        raise RuntimeError(
            f"the eigenpairs missed their tolerance: residual {residual:.1e}, lambda_max {scale:.3g}, tol {tol:.1e}, "
            f"|U^T U - I| {defect:.1e}; try a smaller k than {k} or a larger tol"
        )


def eigencount(
    laplacian: Laplacian,
    cutoff: float,
    method: Literal["stochastic", "exact"] = "stochastic",
    *,
    order: int = 400,
    probes: int = 8,
    seed: int = 0,
) -> EigenCount:
    """Count the eigenvalues at or below ``cutoff``, by estimate or exactly.

    "stochastic" takes the mean of <z, h(L) z> over random signs z. h is the Jackson-Chebyshev low-pass of that order
    (even), whose edge is smoothed: from ``lambda_max`` (pi / order)^2 / 4 on it resolves the low end. Cost: order / 2
    matvecs of ``probes`` channels; ``seed`` seeds the generator of the probes. The standard error is that of the probes
    alone, at most about sqrt(2 count / probes).

    "exact" counts the negative pivots of a factorisation of L - cutoff, and has no use for the other options; the
    standard error is 0. Eigenvalues within 1e-6 lambda_max of the cutoff, at most, may fall on either side. Cost:
    SuperLU's factors of L and their product; refused beyond 10^5 nodes.

    Raises ValueError for bad options and graphs too large for "exact", RuntimeError where the pivots cannot be trusted.

    Source: E. Di Napoli, E. Polizzi, Y. Saad, "Efficient estimation of eigenvalue counts in an interval", 2016.
    """
    _check_method(method)
    if not cutoff >= 0:
        raise ValueError(f"the cutoff must be at least 0, got {cutoff}")
    if method == "exact":
        return EigenCount(float(inertia_count(laplacian, cutoff).below), 0.0)
    found = sign_moments(laplacian, order, probes, seed)
    return _count(found, cutoff / laplacian.lambda_max if laplacian.lambda_max else 1.0)


def cutoff_for(
    laplacian: Laplacian,
    k: int | float,
    method: Literal["stochastic", "exact"] = "stochastic",
    *,
    order: int = 400,
    probes: int = 8,
    seed: int = 0,
) -> float:
    """Return the cutoff below which k eigenvalues lie (k an integer, or a fraction of n in (0, 1)).

    "stochastic" estimates it, by bisection in log(cutoff) of :func:`eigencount`, which grows with the cutoff since the
    damping kernel is positive; the moments of the probes do not depend on the cutoff and are computed once. "exact" is
    the middle between the k-th eigenvalue and the next by :func:`eigenbasis`, at its cost and in its memory, without
    the other options; where the two are the same, more than k lie there. For k = n it is ``lambda_max``. Arguments,
    cost and errors as there.
    """
    k = dimension(k, laplacian.n)
    _check_method(method)
    if k == laplacian.n:
        return laplacian.lambda_max
    if method == "exact":
        return float(eigenbasis(laplacian, k + 1).eigenvalues[-2:].mean())
    found = sign_moments(laplacian, order, probes, seed)
    low, high = math.log(1e-12), 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if _count(found, math.exp(middle)).estimate < k else (low, middle)
    return laplacian.lambda_max * math.exp((low + high) / 2)


def _check_method(method: str) -> None:
    if method not in ("stochastic", "exact"):
        raise ValueError(f"method must be 'stochastic' or 'exact', got {method!r}")


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
