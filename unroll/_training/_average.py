"""The exponential moving average of the parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def moving_average(module: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a module that keeps m_t = d_t m_{t-1} + (1 - d_t) theta_t, d_t = min(decay, t / (t + 10)).

    Its n-th update is t = n, and m_1 = theta_1; the small d_t of the beginning forget the start. Buffers are copied.
    """

    def update(averages: Any, current: Any, count: torch.Tensor | int) -> None:
        t = int(count) + 1
        torch._foreach_lerp_(averages, current, 1 - min(decay, t / (t + 10)))

    return AveragedModel(module, multi_avg_fn=update)
