"""Closed-form transfers of colour: what a photorealistic transfer must beat, and nothing is learned.

Both map every pixel by itself, from statistics of the two pictures, images (B or 1, 3, H, W) in [0, 1]; the result is
not clipped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unroll import LearnedUpdate

ColourTransfer = Callable[[Tensor, Tensor], Tensor]

# RGB to the cone responses LMS, and the decorrelated opponent axes of log LMS: equations 4 and 6 of Reinhard et al.
_LMS = ((0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444))
_OPPONENT = ((3**-0.5, 3**-0.5, 3**-0.5), (6**-0.5, 6**-0.5, -2 * 6**-0.5), (2**-0.5, -(2**-0.5), 0.0))
_LUMA = (0.299, 0.587, 0.114)
_BLACK = 1 / 255
"""Added before the logarithm and taken off after it: one step of 8 bits."""


def reinhard(content: Tensor, style: Tensor) -> Tensor:
    """Return the content with the style's mean and standard deviation on each axis of l-alpha-beta.

    Source: E. Reinhard, M. Ashikhmin, B. Gooch, P. Shirley, "Color transfer between images", 2001. Black, whose
    logarithm they leave open, is lifted by 1/255.
    """
    axes, cones = content.new_tensor(_OPPONENT), content.new_tensor(_LMS)

    def opponent(image: Tensor) -> Tensor:
        return axes @ (cones @ image.flatten(2).clamp_min(0) + _BLACK).log()

    x, s = opponent(content), opponent(style.to(content))
    scale = s.std(-1, keepdim=True) / x.std(-1, keepdim=True).clamp_min(1e-6)
    moved = (x - x.mean(-1, keepdim=True)) * scale + s.mean(-1, keepdim=True)
    recoloured: Tensor = torch.linalg.solve(cones, (axes.mT @ moved).exp() - _BLACK)
    return recoloured.view_as(content)


def monge_kantorovich(content: Tensor, style: Tensor) -> Tensor:
    r"""Return T(x) = mu_s + A (x - mu_c), A the linear optimal transport between the Gaussians of their colours.

    .. math:: A = K_c^{-1/2} (K_c^{1/2} K_s K_c^{1/2})^{1/2} K_c^{-1/2},

    the one symmetric positive definite A with A K_c A = K_s: of all linear maps that carry mean and covariance over, it
    moves the colours least. Computed in float64, with 1e-6 on the diagonals.

    Source: F. Pitie and A. Kokaram, "The linear Monge-Kantorovitch linear colour mapping for example-based colour
    transfer", 2007.
    """
    x, s = content.flatten(2).double(), style.to(content).flatten(2).double()
    means = x.mean(-1, keepdim=True), s.mean(-1, keepdim=True)
    k_c, k_s = (_covariance(rows) for rows in (x, s))
    root, inverse = _power(k_c, 0.5), _power(k_c, -0.5)
    a = inverse @ _power(root @ k_s @ root, 0.5) @ inverse
    return (a @ (x - means[0]) + means[1]).view_as(content).to(content)


def with_chroma(image: Tensor, photograph: Tensor) -> Tensor:
    """Return the luma of an image with the chroma of a photograph, clipped to [0, 1]; both (B, 3, H, W).

    In Y'CbCr of ITU-R BT.601, that of JPEG: photograph + (Y'(image) - Y'(photograph)), the same for R, G and B, since
    Cb and Cr are differences of these. The photograph itself comes back bit for bit.

    Source: L. Gatys et al., "Preserving color in neural artistic style transfer", 2016, section 3.2 (there in YIQ,
    which differs in its chroma axes alone).
    """
    weights = photograph.new_tensor(_LUMA)[:, None, None]
    luma = ((image - photograph) * weights).sum(1, keepdim=True)
    return (photograph + luma).clamp(0, 1)


COLOUR_TRANSFERS: dict[str, ColourTransfer] = {"reinhard": reinhard, "monge-kantorovich": monge_kantorovich}


class ColourUpdate(LearnedUpdate):
    """g(x) = x - T(x, style): a colour transfer T as the one update of a solver, ``data`` the style image."""

    def __init__(self, transfer: ColourTransfer) -> None:
        super().__init__()
        self.transfer = transfer

    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        """Return x - T(x, data)."""
        return x - self.transfer(x, data)


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(-1, keepdim=True)
    return centred @ centred.mT / rows.shape[-1] + 1e-6 * torch.eye(rows.shape[1]).to(rows)


def _power(k: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(k)
    power: Tensor = (vectors * values[..., None, :] ** exponent) @ vectors.mT
    return power
