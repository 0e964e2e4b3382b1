"""Several processes that train one solver, under torch.distributed."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

if dist.is_available():
    # Its functions have the group that there is at its import as default of an argument, and hold it for good. Imported
    # with the first optimiser, it kept the threads of gloo alive while the interpreter ended, which now and then
    # aborted it.
    import torch.distributed.nn


class Processes:
    """The process group that the caller has initialised, or this process alone.

    Attributes:
        rank, count: which process this is, and of how many.
    """

    def __init__(self, device: torch.device) -> None:
        self._on = dist.is_available() and dist.is_initialized()
        self._device = device
        self.rank = dist.get_rank() if self._on else 0
        self.count = dist.get_world_size() if self._on else 1

    def wrap(self, module: nn.Module, *, idle_parameters: bool) -> nn.Module:
        """Return a module whose gradients are the means over the processes.

        ``idle_parameters``: whether some of its parameters may have no part in some of the losses.
        """
        return DistributedDataParallel(module, find_unused_parameters=idle_parameters) if self._on else module

    def most(self, *numbers: float) -> list[float]:
        """Return the largest that any process has, of each number: what all of them then act on alike."""
        if not self._on:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return values.tolist()

    def gather(self, state: Any) -> list[Any]:
        """Return what every process has, in the order of their ranks."""
        if not self._on:
            return [state]
        states: list[Any] = [None] * self.count
        dist.all_gather_object(states, state)
        return states

    def wait(self) -> None:
        """Wait for all of them."""
        if self._on:
            dist.barrier()
