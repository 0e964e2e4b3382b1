"""Inputs that the tests of graphs share."""

import math

import torch
from scipy import sparse

import graphs


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


def every_kind():
    """Return small Laplacians of every kind by name."""
    image = picture(12, 15)
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    normalised = graphs.grid(image).to_scipy()
    scale = sparse.diags_array(normalised.diagonal() ** -0.5)
    video = torch.rand(1, 2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    edges = torch.tensor([[0, 1, 2, 0, 4], [1, 2, 0, 3, 4]])  # node 5 is alone, node 4 has a self-loop
    weights = torch.tensor([1.1, 2.3, 0.7, 3.1, 7.7], dtype=torch.float64, requires_grad=True)
    weighted = graphs.from_edges(edges, weights, 6)
    return {
        "matting": graphs.matting(image),
        "matting2": graphs.matting(image, radius=2, eps=1e-4),
        "narrow": graphs.matting(picture(9, 3)),
        "grid4": graphs.grid(image),
        "grid8": graphs.grid(image, neighbours=8),
        "trimmed": graphs.matting(
            image, border="trimmed", features=7 * features.T.repeat(1, 5)[:, :180].reshape(3, 12, 15)
        ),
        "video": graphs.grid(video, neighbours=26, weights="cauchy", spacing=(2.0, 1.0, 0.5)),
        "signal": graphs.grid(video[0, :, 0, 0], sigma=1.0),
        "normalised matting": graphs.matting(image).normalized(),
        "normalised grid": graphs.grid(image, neighbours=8).normalized(),
        "normalised edges": weighted.normalized(),
        "edges": weighted,
        "column": graphs.grid((7, 1), neighbours=8),
        "pixel": graphs.grid((1, 1)),
        "knn": graphs.knn(features, 4),
        "knn of distances": graphs.knn(features.repeat(1, 6), 4, symmetrise="intersection"),
        "scipy": graphs.from_scipy(scale @ normalised @ scale, grid_shape=(12, 15)),
    }
