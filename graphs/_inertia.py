"""How many eigenvalues lie below a cutoff, exactly: by the signs of a triangular factorisation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from graphs._coarse import symmetric_factor
from graphs._laplacian import Laplacian

LARGEST = 100_000  # nodes


class InertiaCount(NamedTuple):
    """How many eigenvalues lie at or ``below`` a cutoff, exact but for those nearer to it than ``margin``."""

    below: int
    margin: float


def inertia_count(laplacian: Laplacian, cutoff: float) -> InertiaCount:
    """Return the number of eigenvalues of L at or below ``cutoff``, with their multiplicities.

    With s = 1e-9 lambda_max, A = P (L - (cutoff + s) I) P^T = K D K^T, K unit lower triangular, D diagonal: by
    Sylvester's law of inertia as many eigenvalues lie below cutoff + s as D has negative entries. Pivots off the
    diagonal are not sought, which can spoil the factors, so they are multiplied again: eigenvalues farther from the
    cutoff than margin = s + ||K D K^T - A||_inf are counted right, whatever the rounding.

    Cost: a sparse factorisation and the product of its factors, on the CPU in float64. Raises ValueError for a bad
    cutoff and beyond 10^5 nodes, RuntimeError where a pivot is zero or the margin exceeds 1e-6 lambda_max, as for
    cutoffs far up in the spectrum of a large graph.

    Source: B. Parlett, "The symmetric eigenvalue problem", 1998, section 3.3.
    """
    if not cutoff >= 0:
        raise ValueError(f"the cutoff must be at least 0, got {cutoff}")
    n, scale = laplacian.n, laplacian.lambda_max
    if cutoff >= scale:
        return InertiaCount(n, 0.0)
    if n > LARGEST:
        raise ValueError(f"an exact count factorises L, up to {LARGEST} nodes; this graph has {n}: estimate instead")
    shift = 1e-9 * scale
    matrix = sparse.csc_array(laplacian.to_scipy() - (cutoff + shift) * sparse.eye_array(n))
    advice = f"no exact count at {cutoff:.6g}: move the cutoff a little, or estimate by eigencount"
    try:
        factor = symmetric_factor(matrix)
    except RuntimeError as error:
        raise RuntimeError(f"a pivot of the factorisation is zero; {advice}") from error
    if not np.array_equal(factor.perm_r, factor.perm_c):
        raise RuntimeError(f"the factorisation left the diagonal for its pivots; {advice}")
    signs, lower = factor.U.diagonal(), sparse.csr_array(factor.L)
    order = np.argsort(factor.perm_c)
    defect = lower @ sparse.diags_array(signs) @ lower.T - sparse.csr_array(matrix)[order][:, order]
    margin = shift + float(abs(defect).sum(axis=1).max())
    if not margin <= 1e-6 * scale:
        raise RuntimeError(f"the factors miss their matrix by {margin:.1e}; {advice}")
    return InertiaCount(int((signs < 0).sum()), margin)
