"""The data of a training and the place in them, so that a resumed run goes on with the batch that was next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from unroll._training._progress import Progress


class Batches:
    """Batches without end, from an iterable gone through again and again or from a function of the progress.

    The place in the data is, of a function, nothing; of an iterable with ``state_dict`` and ``load_state_dict`` (as
    torchdata's StatefulDataLoader), what these say; of any other, how many batches of the present epoch were taken and
    the state of torch's generator at its beginning, with which the epoch is begun again and as many are taken.
    """

    def __init__(self, data: Iterable[Any] | Callable[[Progress], Any]) -> None:
        self.data = data
        self.function: Callable[[Progress], Any] | None = None
        if not isinstance(data, Iterable):
            if not callable(data):
                raise TypeError(
                    f"data must be an iterable of batches or a function of the progress, got {type(data).__name__}"
                )
            self.function = data
        self._epoch: Iterator[Any] | None = None
        self._taken = 0
        self._generator = torch.get_rng_state()
        self._stateful = hasattr(data, "state_dict") and hasattr(data, "load_state_dict")

    def next(self, at: Progress) -> Any:
        """Return the next batch."""
        if self.function is not None:
            return self.function(at)
        if self._epoch is None:
            self._begin()
        assert self._epoch is not None
        for batch in self._epoch:
            self._taken += 1
            return batch
        if not self._taken:
            raise ValueError(
                "the data gave no batch: an iterator can be gone through once only, pass what can be iterated anew"
                if at.step
                else "the data gave no batch"
            )
        self._begin()
        return self.next(at)

    def _begin(self) -> None:
        self._taken = 0
        self._generator = torch.get_rng_state()
        assert isinstance(self.data, Iterable)
        self._epoch = iter(self.data)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the data."""
        if self.function is not None or self._epoch is None:
            return {}
        state = self.data.state_dict() if self._stateful else None  # type: ignore[union-attr]
        return {"taken": self._taken, "generator": self._generator, "data": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a place in the data."""
        if not state:
            return
        if self._stateful:
            self.data.load_state_dict(state["data"])  # type: ignore[union-attr]
            self._begin()
            self._taken, self._generator = state["taken"], state["generator"]
            return
        torch.set_rng_state(state["generator"])
        self._begin()
        assert self._epoch is not None
        for _ in range(state["taken"]):
            if next(self._epoch, None) is None:
                raise ValueError(
                    f"the data end before batch {state['taken']}, where the checkpoint was saved: resume with the same"
                )
            self._taken += 1


def generators(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of torch's generators, of the CPU and of a device."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def set_generators(device: torch.device, states: dict[str, torch.Tensor]) -> None:
    """Set torch's generators to such states."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
