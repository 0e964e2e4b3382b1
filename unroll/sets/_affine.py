"""Hyperplanes, half-spaces, affine sets."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll._proximal import hold, like, without_autocast
from unroll.sets._base import SetProjector, check_length


class Hyperplane(SetProjector):
    """Projection onto {x : <a, x> = b}: v - (<a, v> - b) a / ||a||^2.

    Shapes: ``normal`` a is (n,), vectors (..., n) along the last dimension, the others are batch; ``offset`` b is a
    number, or a tensor that broadcasts against (..., 1). Real. Cost: O(n). Raises ValueError for a = 0.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, chapter 6.
    """

    normal: Tensor
    offset: float | Tensor

    def __init__(self, normal: Tensor, offset: float | Tensor = 0.0) -> None:
        super().__init__()
        if normal.ndim != 1 or not float(torch.linalg.vector_norm(normal)) > 0:
            raise ValueError(f"the normal must be a vector (n,) other than 0, got the shape {tuple(normal.shape)}")
        hold(self, normal=normal, offset=offset)

    def project(self, v: Tensor) -> Tensor:
        """Return v without what it has too much along a."""
        excess, step = self._excess(v)
        return torch.addcmul(v, excess, step, value=-1)

    def _excess(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return <a, v> - b (..., 1), and a / ||a||^2."""
        check_length(self, v, tuple(self.normal.shape))
        a = self.normal.to(v)
        return (v @ a)[..., None] - like(self.offset, v), a / a.square().sum()


class HalfSpace(Hyperplane):
    """Projection onto {x : <a, x> <= b}: v - max(<a, v> - b, 0) a / ||a||^2.

    Shapes, cost and source as for :class:`Hyperplane`.
    """

    def project(self, v: Tensor) -> Tensor:
        """Return v without what it has too much along a; what is inside stays as it is."""
        excess, step = self._excess(v)
        return torch.addcmul(v, excess.relu(), step, value=-1)


class AffineSet(SetProjector):
    """Projection onto {x : A x = b}: v - A^+ (A v - b).

    Shapes: ``matrix`` A is (m, n), of any rank, ``b`` (m,) or (..., m); vectors (..., n) along the last dimension, the
    others are batch. Real or complex. Cost: a singular value decomposition once, then 2 n rank(A) multiplications a
    vector. Raises ValueError where A x = b has no solution to a relative 1e-6.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, chapter 6.
    """

    takes_complex = True
    basis: Tensor
    coordinates: Tensor

    def __init__(self, matrix: Tensor, b: Tensor) -> None:
        super().__init__()
        if matrix.ndim != 2 or b.shape[-1:] != matrix.shape[:1]:
            raise ValueError(
                f"AffineSet takes a matrix (m, n) and b (..., m), got {tuple(matrix.shape)} and {tuple(b.shape)}"
            )
        given = torch.promote_types(matrix.dtype, b.dtype)
        double = torch.promote_types(given, torch.float64)
        with without_autocast(matrix):
            u, s, vh = torch.linalg.svd(matrix.to(double), full_matrices=False)
            rank = int((s > max(matrix.shape) * torch.finfo(matrix.dtype).eps * s.max()).sum()) if s.numel() else 0
            u, s, vh = u[:, :rank], s[:rank], vh[:rank]
            seen = b.to(double) @ u.conj()
            rest = b.to(double) - seen @ u.mT
        if float(rest.abs().max()) > 1e-6 * max(float(b.abs().max()), torch.finfo(torch.float32).tiny):
            raise ValueError("the affine set is empty: A x = b has no solution")
        # A x = b says that the coordinates of x in the row space of A are these.
        hold(self, basis=vh.mH.contiguous().to(given), coordinates=(seen / s).to(given))

    def project(self, v: Tensor) -> Tensor:
        """Return v with its part in the row space of A replaced."""
        check_length(self, v, tuple(self.basis.shape[:1]))
        if self.basis.is_complex() and not v.is_complex():
            raise TypeError(f"the affine set is complex, the signal {v.dtype}: convert the signal")
        basis = self.basis.to(v)
        return v - (v @ basis.conj() - self.coordinates.to(v)) @ basis.mT
