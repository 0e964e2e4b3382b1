"""A pool of training crops whose features are computed once and used in many pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from apps.style_transfer.losses import Targets, gram
from apps.style_transfer.training.data import Pairs


class Batch(NamedTuple):
    """Contents and styles (B, 3, H, W), what the losses compare with, and the features' Grams of the contents."""

    contents: Tensor
    styles: Tensor
    targets: Targets
    grams: tuple[Tensor, ...]


class Pool:
    """``count`` contents and as many styles, with the features that the losses want of them.

    A pair costs the losses three passes through the trunk, of which two see crops alone: here these are made once a
    crop, and each crop meets many others. Pictures are kept in 8 bits, features and Grams in bfloat16.

    Which crops are in the pool ``number`` depends on it, on ``count`` and on the seed of the pairs, nothing else; so
    does the batch of a step.

    Memory: 1.8 MB a pair at 128 pixels (1.4 MB of it are Grams, whatever the size). Cost: two passes a pair.
    """

    def __init__(
        self,
        pairs: Pairs,
        trunk: nn.Module,
        *,
        number: int,
        count: int,
        size: int,
        device: torch.device,
        bfloat16: bool,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._device = device
        self._pictures: list[tuple[Tensor, Tensor]] = []
        self._features: list[Tensor] = []
        self._grams: list[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = []
        bar = tqdm(range(count), desc="encoding crops", unit="pair", leave=False, delay=1, disable=None)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            for i in bar:
                if interrupted():
                    break
                content, style = pairs.batch(number * count + i, batch=1, size=size)
                features = trunk(_to(content, device))
                grams = tuple(gram(f).to("cpu", torch.bfloat16) for f in features)
                of_style = tuple(gram(f).to("cpu", torch.bfloat16) for f in trunk(_to(style, device)))
                self._pictures.append((_eight_bit(content), _eight_bit(style)))
                self._features.append(features[-1].to("cpu", torch.bfloat16))
                self._grams.append((grams, of_style))

    def __len__(self) -> int:
        """Return how many contents there are (fewer than asked for, where the making was interrupted)."""
        return len(self._pictures)

    def pictures(self) -> Tensor:
        """Return contents and styles, (2 count, 3, H, W) in 8 bits on the CPU."""
        return torch.cat([picture for pair in self._pictures for picture in pair])

    def batch(self, generator: torch.Generator, size: int) -> Batch:
        """Return ``size`` random pairs."""
        contents, styles = (torch.randint(len(self), (size,), generator=generator).tolist() for _ in range(2))

        def stack(tensors: list[Tensor]) -> Tensor:
            return torch.cat(tensors).to(self._device)

        def grams(which: list[int], side: int) -> tuple[Tensor, ...]:
            return tuple(
                stack(list(level)).float() for level in zip(*(self._grams[i][side] for i in which), strict=True)
            )

        return Batch(
            _to(stack([self._pictures[i][0] for i in contents]).float() / 255, self._device),
            _to(stack([self._pictures[i][1] for i in styles]).float() / 255, self._device),
            Targets(stack([self._features[i] for i in contents]), grams(styles, 1)),
            grams(contents, 0),
        )


def _to(image: Tensor, device: torch.device) -> Tensor:
    return image.to(device).contiguous(memory_format=torch.channels_last)


def _eight_bit(image: Tensor) -> Tensor:
    return (image * 255).round().to(torch.uint8)
