"""The progress bar of a solver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def step_bar(description: str) -> Iterator[Callable[[int], None]]:
    """Give a function to be called with t after iterate t; a bar is drawn on a terminal, after a second of waiting."""
    with tqdm(desc=description, unit="step", disable=None, leave=False, delay=1) as bar:

        def advance(t: int) -> None:
            bar.update(t - bar.n)

        yield advance
