"""Inputs that the tests of graphs share."""

import math

import torch


def picture(height, width, channels=3, seed=0):
    """A natural-looking image: slow gradients, a disc with an edge, a little independent noise in each channel."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.linspace(0, 1, height, dtype=torch.float64)[:, None]
    x = torch.linspace(0, 1, width, dtype=torch.float64)[None, :]
    disc = ((y - 0.4) ** 2 + (x - 0.6) ** 2 < 0.08).double()
    planes = [
        0.5 + 0.2 * torch.sin(math.pi * (1 + c) * x + c) * torch.cos(math.pi * y) + (0.25 - 0.1 * c) * disc
        for c in range(channels)
    ]
    noise = 0.03 * torch.randn(channels, height, width, generator=generator, dtype=torch.float64)
    return (torch.stack(planes) + noise).clamp(0, 1)
