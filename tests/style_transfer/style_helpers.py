"""Pictures and solvers drawn from nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from apps.style_transfer.learned.checkpoint import Checkpoint, write_checkpoint
from apps.style_transfer.learned.update import Architecture, GramUpdate

Program = Callable[..., tuple[int, str, str]]
"""A command line run in this process: exit status, standard output, standard error."""


def draw(height: int, width: int, *, phase: float = 0.0, roughness: float = 0.1) -> Tensor:
    """Return a picture (1, 3, H, W): slow waves of colour, one sharp edge, a little grain."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    waves = [torch.sin(2 * math.pi * ((c + 1) * x + (2 - c) * y) + phase * (c + 1)) for c in range(3)]
    image = 0.5 + 0.2 * torch.stack(waves) + 0.15 * (x > 0.6)
    grain = torch.randn(image.shape, generator=torch.Generator().manual_seed(round(100 * phase)))
    return (image + roughness * grain).clamp(0, 1)[None]


def random_update(architecture: Architecture, *, seed: int = 0) -> GramUpdate:
    """Return an update of random parameters that takes visible steps."""
    torch.manual_seed(seed)
    update = GramUpdate(architecture)
    with torch.no_grad():
        for parameter in update.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return update


def save_weights(path: Path, *, seed: int = 0) -> Path:
    update = random_update(Architecture(channels=(4, 6), convolutions=(2, 2)), seed=seed)
    write_checkpoint(path, Checkpoint(update.state_dict(), update.architecture, {"licence": "MIT"}))
    return path
