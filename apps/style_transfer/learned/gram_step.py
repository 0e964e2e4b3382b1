"""Statistics of features, and the preconditioned Gram step that moves features to the style's.

All need of the features only sums over pixels, so that an image can be processed in tiles, and no eigendecomposition,
so that they can be exported. Given the statistics, a Gram step is one affine map of the features.
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


EncodedStyle = tuple[tuple[Moments, ...], ...]
"""H_{l,t}^s for t = 0..N-1 (outer) and l = 1..L (inner); their batch is that of the image, or its regions."""


class Sums(NamedTuple):
    """Moments that add up, of images or of the R regions of one: :meth:`merge` those of tiles to those of the whole.

    Attributes:
        weight: the number of pixels, or, (R, 1, 1), those of each region.
        mean: (B or R, c, 1), or zero where the sums are about the origin.
        scatter: sum_p m(p) (F(p) - mean) (F(p) - mean)^T, (B or R, c, c).
    """

    weight: Tensor | int
    mean: Tensor
    scatter: Tensor

    @property
    def moments(self) -> Moments:
        """Mean and covariance; of sums about the origin the mean reads 0, and only the Gram is meant."""
        return Moments(self.mean, self.scatter / _positive(self.weight))

    @property
    def total(self) -> Tensor | int:
        """The number of pixels in all regions together."""
        return self.weight.sum() if isinstance(self.weight, Tensor) else self.weight

    def pooled(self, values: Tensor) -> Tensor:
        """Return the mean over the regions of (R, 1, 1), each counted by its pixels; those of images as they are."""
        if not isinstance(self.weight, Tensor):
            return values
        return (self.weight / self.total * values).sum(0, keepdim=True)

    def merge(self, other: Sums) -> Sums:
        """Return the sums over both sets of pixels, in float64.

        Source: T. Chan, G. Golub, R. LeVeque, "Algorithms for computing the sample variance", 1983: what is added are
        scatters about means, so that the small eigenvalues of a flat picture are not lost to rounding.
        """
        weight = self.weight + other.weight
        share = other.weight / _positive(weight)
        step = other.mean.double() - self.mean.double()
        spread = self.weight * share * (step @ step.mT)
        return Sums(weight, self.mean + share * step, self.scatter.double() + other.scatter.double() + spread)

    def to(self, like: Tensor) -> Sums:
        """Return the sums in the dtype and on the device of a tensor."""
        weight = self.weight.to(like) if isinstance(self.weight, Tensor) else self.weight
        return Sums(weight, self.mean.to(like), self.scatter.to(like))


def sums(features: Tensor, regions: Tensor | None = None, *, about_mean: bool = True) -> Sums:
    """Return the sums over the pixels of features (B, c, H, W), or over R regions of one (1, c, H, W).

    ``regions`` are weights (R, H, W) >= 0 of the pixels. The features are centred first: Gram minus mean times mean
    would lose the small eigenvalues of a flat picture, and their sign, to rounding. Who needs the Gram alone saves that
    pass with ``about_mean=False``.
    """
    rows = features.flatten(2)
    if regions is None:
        mean = rows.mean(-1, keepdim=True) if about_mean else rows.new_zeros(*rows.shape[:2], 1)
        centred = features - mean[..., None] if about_mean else features
        return Sums(rows.shape[-1], mean, _scatter(centred, centred))
    weights = regions.flatten(1)[:, None]
    weight = weights.sum(-1, keepdim=True)
    means, scatters = [], []
    for m, n in zip(weights, weight, strict=True):  # one at a time: R copies of the features would be R times as large
        mean = rows @ m.mT / _positive(n) if about_mean else rows.new_zeros(1, rows.shape[1], 1)
        centred = features - mean[..., None] if about_mean else features
        means.append(mean)
        scatters.append(_scatter(centred * m.view_as(features[:, :1]), centred))
    return Sums(weight, torch.cat(means), torch.cat(scatters))


def moments(features: Tensor, regions: Tensor | None = None) -> Moments:
    """Return mean and covariance of features (B, c, H, W), or of each of the R ``regions`` of one, see :func:`sums`."""
    return sums(features, regions).moments


class Affine(NamedTuple):
    """The map F -> matrix F + shift of features, (B or R, c, c) and (B or R, c, 1): a Gram step, its sums known."""

    matrix: Tensor
    shift: Tensor

    def __call__(self, features: Tensor, regions: Tensor | None = None) -> Tensor:
        """Return the mapped features (B, c, H, W); with R ``regions``, sum_r m_r (matrix_r F + shift_r)."""
        rows = features.flatten(2)
        if regions is None:
            # Channels last, as the convolutions leave the features and want them again: else every sum with them is of
            # two layouts, five times as slow.
            mapped: Tensor = torch.baddbmm(self.shift.mT, rows.mT, self.matrix.mT)
            return mapped.view(features.shape[0], *features.shape[2:], -1).permute(0, 3, 1, 2)
        weights = regions.flatten(1)[:, None, None]
        mapped = torch.zeros_like(rows)
        for m, matrix, shift in zip(weights, self.matrix, self.shift, strict=True):
            mapped = torch.addcmul(mapped, m, matrix @ rows + shift)
        return mapped.view_as(features)


def whitening_map(now: Moments, style: Moments) -> Affine:
    """Return F -> D = [F~ K^(-1/2) (K^(1/2) - K_s^(1/2)) + mu - mu_s] / (rms + rms_s): the Gram step preconditioned.

    F~ are the centred features, K and K_s the covariances of image and style with a ridge of 1e-3 of their mean
    diagonal, that of the image with a tenth of the style's ridge at the least, mu the
    means. F - (rms + rms_s) D has the style's Gram, up to the ridge (whitening and colouring: Y. Li et
    al., "Universal style transfer via feature transforms", 2017), so the step vanishes where the paper's does, and goes
    to that point in one stride where a gradient step crawls along the small eigenvalues. The roots are taken by six
    coupled Newton-Schulz iterations (N. Higham, "Functions of matrices", 2008, section 6.7): matrix products only.
    They leave small eigenvalues whitened in part; K^(1/2) is written out, not cancelled, for then D is zero where the
    moments agree, whatever the iterations have left.

    Cost: that of a 1 x 1 convolution, beside c^3 terms that no image size makes grow.
    """
    k, h = now.covariance, style.covariance
    # The style's share bounds what is drawn out: in a region of one flat colour that is rounding.
    root, inverse = matrix_roots(k, least=0.1 * _mean_variance(h))
    change = (root - matrix_roots(h)[0]) @ inverse
    scale = _rms(k) + _rms(h)
    # The division is of the small matrices, and the one product is all that is of the size of the features.
    return Affine(change / scale, (now.mean - style.mean - change @ now.mean) / scale)


def whitening_step(features: Tensor, style: Moments) -> Tensor:
    """Return D of features (B, c, H, W), see :func:`whitening_map`."""
    return whitening_map(moments(features), style)(features)


def matrix_roots(
    covariance: Tensor, *, least: Tensor | float = 0.0, ridge: float = 1e-3, iterations: int = 6
) -> tuple[Tensor, Tensor]:
    """Return approximations of (K + r I)^(1/2) and (K + r I)^(-1/2), K (B, c, c) PSD.

    r = ridge max(tr(K) / c, least) + 1e-6, ``least`` a variance, (B, 1, 1) or a number.

    Coupled Newton-Schulz iteration from K / ||K||_F: six iterations whiten eigenvalues of 3e-2 ||K||_F to 3 per cent
    and those of 1e-2 by 0.7; smaller ones are under-whitened rather than amplified, so a little of D is left where
    K = K_s.
    """
    c = covariance.shape[-1]
    identity = torch.eye(c, dtype=covariance.dtype, device=covariance.device)
    k = covariance + (ridge * _mean_variance(covariance).clamp_min(least) + 1e-6) * identity
    norm = _norm(k)
    y, z = k / norm, identity.expand_as(k)
    for _ in range(iterations):
        correction = 1.5 * identity - 0.5 * (z @ y)
        y, z = y @ correction, correction @ z
    return y * norm.sqrt(), z / norm.sqrt()


def _scatter(left: Tensor, right: Tensor) -> Tensor:
    """Return sum_p left(p) right(p)^T, (B, c, c)."""
    if left.shape[0] > 1:  # small pictures, in training
        return left.flatten(2) @ right.flatten(2).mT
    # One product over a million pixels rounds by 4e-6, which the roots multiply until gates of the next update flip:
    # lines are added up first.
    return (left.transpose(1, 2) @ right.permute(0, 2, 3, 1)).sum(1)


def _norm(k: Tensor) -> Tensor:
    return k.square().sum((-2, -1), keepdim=True).sqrt()


def _rms(k: Tensor) -> Tensor:
    # Root of the mean variance.
    return (_mean_variance(k) + FLOOR).sqrt()


def _mean_variance(k: Tensor) -> Tensor:
    return k.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]


def _positive(weight: Tensor | int) -> Tensor | int:
    # A region without a pixel has sums of zero, and zero moments.
    return weight.clamp_min(torch.finfo(weight.dtype).tiny) if isinstance(weight, Tensor) else weight
