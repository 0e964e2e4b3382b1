"""The VGG-19 trunk whose features the losses compare."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from apps.style_transfer.weights import EMBEDDED_VGG, read_tensors

LEVELS = ("conv1_2", "conv2_2", "conv3_2", "conv4_2")

# Channels of the convolutions of each block, as far as conv4_2; a max pooling stands before blocks 2, 3 and 4.
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512))


class VGG19(nn.Module):
    """Image -> (F_1, F_2, F_3, F_4), the ReLU outputs of conv1_2, conv2_2, conv3_2 and conv4_2.

    Shapes: (B, 3, H, W) RGB in [0, 1], at least 8 x 8, to four tensors (B, c_l, H_l, W_l) with c = 64, 128, 256, 512
    and H_l = floor(H / 2^(l - 1)). Zero padding, max pooling, no parameter requires a gradient.

    Cost: 0.56 Mflop a pixel forward. Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for
    large-scale image recognition", 2014. The embedded weights are the original ones (CC BY 4.0), which take pixels in
    0..255 minus a mean; torchvision's were retrained for another normalisation and give other features.
    """

    smallest_side: ClassVar[int] = 8
    scale: Tensor
    shift: Tensor

    def __init__(self, path: Path = EMBEDDED_VGG) -> None:
        super().__init__()
        self._build()
        weights = read_tensors(path)
        try:
            self.features.load_state_dict({k.removeprefix("features."): v for k, v in weights.items()})
        except RuntimeError as error:
            raise ValueError(f"{path} does not hold VGG-19 up to conv4_2: {' '.join(str(error).split())}") from None
        self._normalise(mean=(123.68 / 255, 116.779 / 255, 103.939 / 255), std=(1 / 255,) * 3)

    @classmethod
    def torchvision(cls) -> VGG19:
        """Return the trunk with torchvision's weights and normalisation (downloads 548 MB the first time)."""
        from torchvision.models import VGG19_Weights, vgg19

        trunk = cls.__new__(cls)
        nn.Module.__init__(trunk)
        trunk._build()
        full = vgg19(weights=VGG19_Weights.IMAGENET1K_V1).features.state_dict()
        trunk.features.load_state_dict({k: v for k, v in full.items() if k in trunk.features.state_dict()})
        trunk._normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        return trunk

    def _build(self) -> None:
        layers: list[nn.Module] = []
        taps: list[int] = []
        channels = 3
        for widths in _BLOCKS:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for i, width in enumerate(widths):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
                if i == 1:
                    taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self._taps = tuple(taps)

    def _normalise(self, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        std_, mean_ = (torch.tensor(v).view(3, 1, 1) for v in (std, mean))
        self.register_buffer("scale", 1 / std_, persistent=False)
        self.register_buffer("shift", -mean_ / std_, persistent=False)
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return (F_1, .., F_4) in the dtype of the trunk, or of autocast where that is on."""
        x = (image * self.scale + self.shift).contiguous(memory_format=torch.channels_last)
        features = []
        for i, layer in enumerate(self.features):
            x = cast(Tensor, layer(x))
            if i in self._taps:
                features.append(x)
        return tuple(features)
