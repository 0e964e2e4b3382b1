"""Weights that are computed and not learned."""

from __future__ import annotations

import torch
from torch import Tensor


def analytic_weights(a: Tensor) -> Tensor:
    """Return W = argmin ||W^T A||_F^2 subject to w_i^T a_i = 1 for every column i; the shape of A, (m, n).

    The problem is one quadratic for each column, min w^T G w with G = A A^T, of the solution
    w_i = G^+ a_i / (a_i^T G^+ a_i): G w_i is a multiple of a_i, which is the condition of Karush, Kuhn and Tucker.
    Computed in float64 and returned in the dtype of A. Cost: O(m^2 (m + n)).

    Raises ValueError if A is not a matrix or has a column of zeros, for which no w_i exists; TypeError if it is not
    real.

    Source: J. Liu, X. Chen, Z. Wang and W. Yin, "ALISTA: analytic weights are as good as learned weights in LISTA",
    ICLR 2019, where the norm stands in for the largest entry of W^T A off the diagonal, the coherence.
    """
    if a.ndim != 2:
        raise ValueError(f"A must be a matrix (m, n), got the shape {tuple(a.shape)}")
    if not a.is_floating_point():
        raise TypeError(f"A must be real and of floating point, got {a.dtype}")
    if not bool((a != 0).any(dim=0).all()):
        raise ValueError("A has a column of zeros, which no measurement sees: leave that unknown out")
    wide = a.double()
    w: Tensor = torch.linalg.pinv(wide @ wide.mT, hermitian=True) @ wide
    return (w / (w * wide).sum(0)).to(a.dtype)
