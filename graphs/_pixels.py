"""Images, videos and further features as checked arrays, and as points for nearest neighbours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from graphs._laplacian import FloatArray


def pixel_array(image: Tensor, *, dimensions: tuple[int, ...] = (2,)) -> FloatArray:
    """Return an image (C, H, W) or (1, C, H, W) in [0, 1] as a float64 array (C, H, W), checked.

    ``dimensions`` admits signals (C, W), of one dimension, and videos (1, C, D, H, W), of three.
    """
    if not isinstance(image, Tensor) or not image.is_floating_point():
        found = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"an image must be a floating torch tensor in [0, 1], got {found}: divide by 255.0 first")
    shape = tuple(image.shape)
    if image.ndim in (4, 5) and image.shape[0] == 1:
        image = image[0]
    batched = len(shape) == image.ndim + 1
    if image.ndim - 1 not in dimensions or 0 in shape or (image.ndim == 4 and not batched):
        forms = {1: "(C, W)", 2: "(C, H, W) or (1, C, H, W)", 3: "(1, C, D, H, W)"}
        raise ValueError(f"an image must be {' or '.join(forms[d] for d in dimensions)}, got the shape {shape}")
    pixels = image.detach().to("cpu", torch.float64).contiguous().numpy()
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(low + high):
        raise ValueError("the values of an image must be finite, got NaN or infinite ones")
    if low < 0 or high > 1:
        raise ValueError(
            f"the values of an image must lie in [0, 1], got {low:.3g} to {high:.3g}: divide by 255 or clamp(0, 1)"
        )
    return pixels


def with_features(pixels: FloatArray, features: Tensor | None) -> FloatArray:
    """Return the channels of an image (C, ...) and, after them, those of ``features`` (F, ...), of any finite value."""
    if features is None:
        return pixels
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise TypeError("features must be a floating torch tensor (F, H, W), like the image")
    if features.ndim == pixels.ndim + 1 and features.shape[0] == 1:
        features = features[0]
    if features.ndim != pixels.ndim or features.shape[1:] != pixels.shape[1:] or features.shape[0] == 0:
        raise ValueError(f"features {tuple(features.shape)} do not lie on the pixels of the image {pixels.shape}")
    more = features.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(more).all():
        raise ValueError("features must be finite, got NaN or infinite ones")
    return np.concatenate([pixels, more])


def pixel_features(image: Tensor, *, position: float = 0.0, patch: int = 0) -> Tensor:
    """Return one row of features for each pixel of an image, (H W, d) float64 on the CPU, for :func:`graphs.knn`.

    Columns: the colours of the (2 patch + 1)^2 pixels around (the border repeated), over the root of their number, so
    that distances are root mean squares over the patch and of the scale of one pixel's; then, for position > 0, the
    pixel's row and column times position / max(H, W), so that ``position`` is what the longer side counts for beside
    black and white.

    Args:
        image: (C, H, W) or (1, C, H, W), floating, in [0, 1].
        position: >= 0.
        patch: radius of the patches, 0 for the pixel's colour alone.

    d = C (2 patch + 1)^2, and 2 for the position. Raises ValueError, and TypeError for integer images.

    Source: A. Buades, B. Coll, J.-M. Morel, "A non-local algorithm for image denoising", CVPR 2005, for the patches.
    """
    pixels = pixel_array(image)
    channels, height, width = pixels.shape
    if isinstance(patch, bool) or not isinstance(patch, int) or patch < 0:
        raise ValueError(f"patch must be an integer of at least 0, got {patch}")
    if not (position >= 0 and np.isfinite(position)):
        raise ValueError(f"position must be a number of at least 0, got {position}")
    size = 2 * patch + 1
    padded = np.pad(pixels, ((0, 0), (patch, patch), (patch, patch)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    columns = [windows.transpose(1, 2, 0, 3, 4).reshape(height * width, channels * size * size) / size]
    if position > 0:
        scale = position / max(height, width)
        columns.append(scale * np.indices((height, width)).reshape(2, -1).T)
    return torch.from_numpy(np.concatenate(columns, axis=1))
