"""Statistics of features, and the preconditioned Gram step that moves features to the style's.

All need of the features only sums over pixels, so that an image can be processed in tiles, and no eigendecomposition,
so that they can be exported.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FLOOR = 1e-4
"""Added to variances before they divide: below any picture's, it keeps the step moderate where both are flat."""


class Moments(NamedTuple):
    """Statistics of features (B, c, H, W) over their n pixels: ``mean`` (B, c, 1) and ``covariance`` (B, c, c)."""

    mean: Tensor
    covariance: Tensor

    @property
    def gram(self) -> Tensor:
        """F^T F / n, (B, c, c)."""
        return self.covariance + self.mean @ self.mean.mT


def moments(features: Tensor) -> Moments:
    """Return mean and covariance of features (B, c, H, W).

    The features are centred first: Gram minus mean times mean would lose the small eigenvalues of a flat picture, and
    their sign, to rounding.
    """
    rows = features.flatten(2)
    mean = rows.mean(-1, keepdim=True)
    centred = rows - mean
    return Moments(mean, centred @ centred.mT / rows.shape[-1])


def whitening_step(features: Tensor, style: Moments) -> Tensor:
    """Return D = [F~ - F~ K^(-1/2) K_s^(1/2) + mu - mu_s] / (rms + rms_s): the Gram step preconditioned.

    F~ are the centred features, K and K_s the covariances of image and style with a ridge of 1e-3 of their mean
    diagonal, mu the means. F - (rms + rms_s) D has the style's Gram, up to the ridge (whitening and colouring: Y. Li et
    al., "Universal style transfer via feature transforms", 2017), so the step vanishes where the paper's does, and goes
    to that point in one stride where a gradient step crawls along the small eigenvalues. The roots are taken by six
    coupled Newton-Schulz iterations (N. Higham, "Functions of matrices", 2008, section 6.7): matrix products only.

    Cost: that of a 1 x 1 convolution, beside c^3 terms that no image size makes grow.
    """
    now = moments(features)
    k, h = now.covariance, style.covariance
    transform = matrix_roots(h)[0] @ matrix_roots(k)[1]
    rows = features.flatten(2)
    identity = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    scale = _rms(k) + _rms(h)
    # The division is of the small matrices, and the one product is all that is of the size of the features.
    shift = (transform @ now.mean - style.mean) / scale
    step: Tensor = torch.baddbmm(shift, (identity - transform) / scale, rows)
    return step.view_as(features)


def matrix_roots(covariance: Tensor, *, ridge: float = 1e-3, iterations: int = 6) -> tuple[Tensor, Tensor]:
    """Return approximations of (K + r I)^(1/2) and (K + r I)^(-1/2), r = ridge tr(K) / c + 1e-6, K (B, c, c) PSD.

    Coupled Newton-Schulz iteration from K / ||K||_F: six iterations whiten eigenvalues of 3e-2 ||K||_F to 3 per cent
    and those of 1e-2 by 0.7; smaller ones are under-whitened rather than amplified, so a little of D is left where
    K = K_s.
    """
    c = covariance.shape[-1]
    identity = torch.eye(c, dtype=covariance.dtype, device=covariance.device)
    mean_diagonal = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    k = covariance + (ridge * mean_diagonal + 1e-6) * identity
    norm = _norm(k)
    y, z = k / norm, identity.expand_as(k)
    for _ in range(iterations):
        correction = 1.5 * identity - 0.5 * (z @ y)
        y, z = y @ correction, correction @ z
    return y * norm.sqrt(), z / norm.sqrt()


def _norm(k: Tensor) -> Tensor:
    return k.square().sum((-2, -1), keepdim=True).sqrt()


def _rms(k: Tensor) -> Tensor:
    # Root of the mean variance.
    return (k.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] + FLOOR).sqrt()
