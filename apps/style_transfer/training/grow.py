"""Larger updates from smaller ones, so that training need not begin anew."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from apps.style_transfer.learned.update import Architecture, GramGradient, GramUpdate


@torch.no_grad()
def grow(update: GramUpdate, architecture: Architecture, *, noise: float = 2e-3) -> GramUpdate:
    """Return an update of a larger architecture that starts as the given one.

    Updates are repeated in turn (g_t of the new one is g_{t mod N} of the old one), and further convolutions of a level
    start as the identity after the ReLU of its first one, so that each g_t is the function that it was, up to
    normal ``noise`` on the new weights, which breaks their symmetry. Channels and all else must agree, and a level that
    grows needs two convolutions, for the identity to stand behind a ReLU; ValueError otherwise. Source: T. Chen, I.
    Goodfellow, J. Shlens, "Net2Net", 2016.
    """
    old = update.architecture
    kinds = tuple(old.kinds[t % old.steps] for t in range(architecture.steps))
    more = [k - k_old for k, k_old in zip(architecture.convolutions, old.convolutions, strict=False)]
    if (
        replace(architecture, kinds=old.kinds, channels=old.channels, convolutions=old.convolutions) != old
        or (architecture.kinds, architecture.channels) != (kinds, old.channels)
        or min(more) < 0
        or any(m and k < 2 for m, k in zip(more, old.convolutions, strict=True))
    ):
        raise ValueError(f"weights of {old} do not grow into {architecture}")
    new = GramUpdate(architecture)
    for t, gradient in enumerate(new.gradients):
        source = cast(GramGradient, update.gradients[t % old.steps])
        state = {k: v for k, v in source.state_dict().items() if not k.startswith("levels.")}
        for l, (level, extra) in enumerate(zip(source.levels, more, strict=False)):
            for side in ("forward_maps", "backward_maps"):
                layers = list(cast(nn.ModuleList, getattr(level, side)))
                layers[1:1] = [_identity(cast(nn.Conv2d, layers[-1]), noise) for _ in range(extra)]
                for k, layer in enumerate(layers):
                    state |= {f"levels.{l}.{side}.{k}.{name}": v for name, v in layer.state_dict().items()}
        gradient.load_state_dict(state)
    return new


def _identity(like: nn.Conv2d, noise: float) -> nn.Conv2d:
    layer = copy.deepcopy(like)
    nn.init.dirac_(layer.weight)
    layer.weight.add_(torch.randn_like(layer.weight), alpha=noise)
    if layer.bias is not None:
        layer.bias.zero_()
    return layer
