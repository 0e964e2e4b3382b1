"""Figures of a restyled picture that need no trunk: edges kept, energy on the photograph's graph, distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from graphs import Laplacian


def edge_ssim(x: Tensor, y: Tensor) -> float:
    """Return SSIM between the Sobel magnitudes of the channel means of two images (1, 3, H, W) in [0, 1].

    1 where both have the same edges. Sobel kernels (1, 2, 1) x (-1, 0, 1), magnitude divided by 4, borders mirrored;
    SSIM with a Gaussian of sigma 1.5 (11 x 11 pixels), population statistics, a range of 1, averaged but for the 5
    pixels along the border. Computed in float64.

    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    a, b = _edges(x), _edges(y)
    mean_a, mean_b = _blur(a), _blur(b)
    variances = _blur(a * a) - mean_a**2 + _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return float(ssim.mean())


def matting_energy(x: Tensor, laplacian: Laplacian) -> float:
    """Return Tr(X^T L X) / n of an image (1, 3, H, W), L the matting Laplacian of the photograph."""
    return float(laplacian.quadratic(x)) / laplacian.n


def psnr(x: Tensor, y: Tensor) -> float:
    """Return -10 log10 of the mean squared difference of images in [0, 1], in dB; infinite where they are equal."""
    error = float((x.double() - y.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def _edges(image: Tensor) -> Tensor:
    grey = image.double().mean(1, keepdim=True)
    # Mirrored with the border repeated, which pad() does not offer: symmetric, not reflect.
    grey = torch.cat([grey[..., :1, :], grey, grey[..., -1:, :]], -2)
    grey = torch.cat([grey[..., :1], grey, grey[..., -1:]], -1)
    smooth, difference = grey.new_tensor([1.0, 2.0, 1.0]), grey.new_tensor([-1.0, 0.0, 1.0])
    down = conv2d(grey, torch.outer(difference, smooth)[None, None])
    across = conv2d(grey, torch.outer(smooth, difference)[None, None])
    return torch.hypot(down, across) / 4


def _blur(plane: Tensor) -> Tensor:
    """Return Gaussian means where the whole window fits; of planes below 11 pixels, with borders repeated."""
    window = (torch.arange(-5, 6, dtype=plane.dtype, device=plane.device).square() / (-2 * 1.5**2)).exp()
    window = window / window.sum()
    if min(plane.shape[-2:]) < 11:
        plane = pad(plane, (5, 5, 5, 5), mode="replicate")
    return conv2d(conv2d(plane, window[None, None, None]), window[None, None, :, None])
