"""A small picture as a large one, without the memory of that."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from apps.style_transfer.files.images import resized
from apps.style_transfer.tiles.canvas import Rectangle


class Enlarged:
    """An image (1, 3, h, w) in [0, 1] as :func:`~apps.style_transfer.files.images.resize` enlarges it, read by parts.

    Beside a photograph of 100 megapixels a painting is seen at that size, which in floats is 1.2 GB. Pillow computes
    any rectangle of an enlarged picture from the small one, by the bicubic kernel that PyTorch has taken from it.
    """

    def __init__(self, image: Tensor, longest: int) -> None:
        self._channels = [Image.fromarray(channel.float().cpu().numpy()) for channel in image[0]]
        self.shape = (3, *resized(image, longest))

    def read(self, where: Rectangle) -> Tensor:
        """Return pixels as an image (1, 3, h, w)."""
        _, height, width = self.shape
        across, down = self._channels[0].width / width, self._channels[0].height / height
        box = where.left * across, where.top * down, where.right * across, where.bottom * down
        size = where.right - where.left, where.bottom - where.top
        parts = [np.asarray(c.resize(size, Image.Resampling.BICUBIC, box)) for c in self._channels]
        return torch.from_numpy(np.stack(parts))[None].clamp(0, 1)
