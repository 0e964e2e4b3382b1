"""One level of an update: from a resolution to the next coarser one, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad, relu

Padding = Literal["replicate", "zeros"]


class Level(nn.Module):
    """One level: pooling (but for the first), 3 x 3 convolutions up, and those that mirror them down."""

    def __init__(
        self, below: int, channels: int, *, convolutions: int, pool: bool, gated: bool, ramp: float, padding: Padding
    ) -> None:
        super().__init__()
        self.pool = pool
        self.gated, self.ramp = gated, ramp

        def conv(i: int, o: int, *, bias: bool) -> nn.Conv2d:
            layer = nn.Conv2d(i, o, 3, padding=1, padding_mode=padding, bias=bias)
            initialise(layer.weight, partial(nn.init.kaiming_normal_, nonlinearity="relu"))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            return layer

        ins = (below, *[channels] * (convolutions - 1))
        self.forward_maps = nn.ModuleList(conv(i, channels, bias=True) for i in ins)
        # backward_maps[k] mirrors forward_maps[k]: they are passed from the last to the first.
        # They have no biases: where there is nothing to move, D = 0, they have nothing to say.
        self.backward_maps = nn.ModuleList(conv(channels, i, bias=False) for i in ins)

    def forward(self, y: Tensor) -> list[Tensor]:
        """Return the outputs of the convolutions, before their activation."""
        y = halve(y) if self.pool else y
        outputs: list[Tensor] = []
        for layer in self.forward_maps:
            outputs.append(layer(relu(outputs[-1]) if outputs else y))
        return outputs

    def backward_map(self, d: Tensor, outputs: Sequence[Tensor], *, size: torch.Size) -> Tensor:
        """Carry d from the tap to the input of the level, of the given size: the mirror image of :meth:`forward`."""
        for k in reversed(range(len(self.backward_maps))):
            d = self.backward_maps[k](d)
            if k:
                d = d * gate(outputs[k - 1], self.ramp) if self.gated else relu(d)
        return _double(d, size) if self.pool else d

    @torch.no_grad()
    def transpose_(self) -> None:
        """Make the backward maps the exact transposes of the forward maps (with zero padding: their adjoints)."""
        for mirror, source in zip(self.backward_maps, self.forward_maps, strict=True):
            cast(nn.Conv2d, mirror).weight.copy_(cast(nn.Conv2d, source).weight.transpose(0, 1).flip(2, 3))
        if self.pool:
            # The transpose of averaging 2 x 2 pixels repeats a pixel and divides by four.
            cast(nn.Conv2d, self.backward_maps[0]).weight.mul_(0.25)


def initialise(tensor: Tensor, fill: Callable[[Tensor], object]) -> Tensor:
    """Return a tensor, filled in place; but on the meta device, where for nothing PyTorch would import its compiler."""
    if not tensor.is_meta:
        fill(tensor)
    return tensor


def gate(y: Tensor, ramp: float) -> Tensor:
    """Return what is let through on the way down where a ReLU saw y: y > 0, by a ramp from 0 up to a width.

    A step would make an update of tiles, of another device or in another order of sums a visibly different one at
    single pixels: rounding decides where y is next to nothing. The ramp is the derivative of a ReLU that is rounded off
    within its width. No gradient passes through it, nor does any through the step.
    """
    return y > 0 if ramp == 0 else (y.detach() / ramp).clamp(0, 1)


def halve(y: Tensor) -> Tensor:
    """Return images (B, c, H, W) at half the size, by 2 x 2 means; an odd side is repeated at its end first."""
    h, w = y.shape[-2:]
    even = isinstance(h, int) and isinstance(w, int) and h % 2 == w % 2 == 0  # which a symbol, in a trace, is not
    return avg_pool2d(y if even else pad(y, (0, w % 2, 0, h % 2), mode="replicate"), 2)


def _double(d: Tensor, size: torch.Size) -> Tensor:
    # What interpolate calls, given the scale and the size at once: then nothing is cut off an odd side, and no program
    # that is exported from this branches on sizes.
    return cast(Tensor, torch.ops.aten.upsample_nearest2d(d, size, 2.0, 2.0))
