"""The losses of style transfer. Sums over pixels and channels are divided as in the paper; X is in [0, 1].

``ContentLoss`` and ``StyleLoss`` compare features, so that any sum of them costs one pass through the trunk:
``Perceptual(vgg, 1.0 * ContentLoss() + 1e-4 * StyleLoss())`` is a loss of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from apps.style_transfer.learned.precision import at_least_single
from graphs import Laplacian
from unroll import Loss

CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 1e-4


@dataclass(frozen=True)
class Targets:
    """What the losses compare an image with, computed once for a pair.

    ``content`` is C_4, (B, c_4, H_4, W_4); ``grams`` the S_l^T S_l / n'_l of the style image, (B or 1, c_l, c_l);
    ``laplacian`` the matting Laplacian of the photograph, for the losses that need it.
    """

    content: Tensor
    grams: tuple[Tensor, ...]
    laplacian: Laplacian | None = None


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrix F^T F / n of features (B, c, H, W), n = H W: (B, c, c), computed in float32 at least."""
    rows = at_least_single(features.flatten(2))
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ rows.mT / rows.shape[-1]


@torch.no_grad()
def encode_style(vgg: nn.Module, style: Tensor) -> tuple[Tensor, ...]:
    """Return the Grams S_l^T S_l / n'_l, l = 1..4, of a style image (B or 1, 3, H', W')."""
    return tuple(gram(f) for f in vgg(style))


@torch.no_grad()
def encode_targets(vgg: nn.Module, content: Tensor, style: Tensor, laplacian: Laplacian | None = None) -> Targets:
    """Return the targets of a content image (B, 3, H, W) and a style image (B or 1, 3, H', W')."""
    return Targets(vgg(content)[-1], encode_style(vgg, style), laplacian)


class ContentLoss(Loss):
    """L_c = 1 / (n_4 c_4) ||F_4 - C_4||_F^2, of features (F_1, .., F_4) and :class:`Targets`.

    Source: L. Gatys, A. Ecker, M. Bethge, "Image style transfer using convolutional neural networks", CVPR 2016, with
    the scale of Puy and Perez.
    """

    def forward(self, x: tuple[Tensor, ...], data: Targets) -> Tensor:
        """Return L_c, (B,)."""
        return (at_least_single(x[-1]) - at_least_single(data.content)).square().flatten(1).mean(1)


class StyleLoss(Loss):
    """L_s = 1/|I_s| sum_l 1/c_l^2 || F_l^T F_l / n_l - S_l^T S_l / n'_l ||_F^2, of features and :class:`Targets`.

    Source: as :class:`ContentLoss`. Its gradient with respect to F_l is 4 / (|I_s| c_l^2 n_l) F_l [G_l - H_l].
    """

    def forward(self, x: tuple[Tensor, ...], data: Targets) -> Tensor:
        """Return L_s, (B,)."""
        levels = [(gram(f) - h).square().mean((1, 2)) for f, h in zip(x, data.grams, strict=True)]
        return torch.stack(levels).mean(0)


class PhotorealismLoss(Loss):
    """L_p = Tr(X^T L X) / n, of images X (B, 3, H, W) in [0, 1], L = ``data.laplacian`` of the same n pixels.

    Source: F. Luan, S. Paris, E. Shechtman, K. Bala, "Deep photo style transfer", CVPR 2017. The 1/n is ours, so that
    a weight means the same at every size.
    """

    def forward(self, x: Tensor, data: Targets) -> Tensor:
        """Return L_p, (B,)."""
        if data.laplacian is None:
            raise ValueError(
                "PhotorealismLoss needs targets with a Laplacian: encode_targets(..., laplacian=matting(image))"
            )
        return data.laplacian.quadratic(x) / data.laplacian.n


class Perceptual(Loss):
    """A loss of features turned into a loss of images, f(trunk(x), data)."""

    def __init__(self, trunk: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.trunk = trunk
        self.loss = loss

    def forward(self, x: Tensor, data: Any = None) -> Tensor:
        """Return the value, (B,)."""
        return cast(Tensor, self.loss(self.trunk(x), data))


def reference_objective(
    vgg: nn.Module, *, content_weight: float = CONTENT_WEIGHT, style_weight: float = STYLE_WEIGHT
) -> Perceptual:
    """Return lambda_c L_c + lambda_s L_s, by default the reference objective of all training and tables."""
    return Perceptual(vgg, content_weight * ContentLoss() + style_weight * StyleLoss())
