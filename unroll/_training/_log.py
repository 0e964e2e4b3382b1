"""The log: one JSON object a line, with means over the steps since the line before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unroll._training._checkpoint import write_whole
from unroll._training._progress import Progress


class Log:
    """Means of what the steps report, as lines of a file (if there is a path) and as a list."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.lines: list[dict[str, Any]] = []
        self._sums: dict[str, tuple[Tensor | float, int]] = {}

    def open(self, path: Path, *, resumed_at: int | None) -> None:
        """Write to a file from now on: begun anew, or after its lines up to a step."""
        kept = [] if resumed_at is None else _up_to(path, resumed_at)
        write_whole(path, lambda file: file.write("".join(kept).encode()))
        self.path = path

    def add(self, **numbers: Tensor | float) -> None:
        """Take in what a step reports; tensors stay on their device until the next line."""
        for name, value in numbers.items():
            value = value.detach() if isinstance(value, Tensor) else value
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1

    def means(self) -> dict[str, float]:
        """Return the means since the last call."""
        sums, self._sums = self._sums, {}
        return {name: float(total) / count for name, (total, count) in sums.items()}

    def write(self, at: Progress, numbers: Mapping[str, Any]) -> None:
        """Add a line."""
        line = {"step": at.step, "seconds": round(at.seconds, 3), **numbers}
        self.lines.append(line)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Return what has been taken in and not been written."""
        return {name: [float(total), count] for name, (total, count) in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take that in again."""
        self._sums = {name: (total, count) for name, (total, count) in state.items()}


def _up_to(path: Path, step: int) -> list[str]:
    """Return the lines of a file up to a step: what was killed may have left later ones, and half a line."""
    kept = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        try:
            if json.loads(line)["step"] <= step and line.endswith("\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return kept
