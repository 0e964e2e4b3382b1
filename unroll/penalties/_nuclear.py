"""The nuclear norm of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from unroll.penalties._base import Penalty
from unroll.sets._spectral import Recompose


class NuclearNorm(Penalty):
    """The prox of f(X) = weight sum_i sigma_i(X), the nuclear norm: the soft threshold of the singular values.

    Shapes: matrices in the last two dimensions, the others are batch; ``weight`` broadcasts against (..., 1, 1). Real
    or complex. Cost: a singular value decomposition. The derivative is finite where singular values are equal; second
    derivatives are refused.

    Source: J.-F. Cai, E. Candes, Z. Shen, "A singular value thresholding algorithm for matrix completion", 2010.
    """

    point_dims = 2
    takes_complex = True

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return U max(Sigma - strength, 0) V^H."""
        u, s, vh = torch.linalg.svd(v.detach(), full_matrices=False)
        if isinstance(strength, Tensor) and strength.ndim:
            strength = strength.squeeze(-1)
        kept = s - strength
        x: Tensor = Recompose.apply(v, u, s, vh, kept.relu(), (kept > 0).to(s.dtype))
        return x
