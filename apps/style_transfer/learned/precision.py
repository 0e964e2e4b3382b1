"""Half precision stops where sums over pixels begin."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(features: Tensor) -> Tensor:
    """Return features of half precision in float32, others as they are."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
