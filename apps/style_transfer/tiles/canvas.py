"""Pictures too large for memory, on disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor


class Rows(Protocol):
    """A picture that can be read strip by strip."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W)."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows, (3, stop - start, W) floating in [0, 1]."""


class Rectangle(NamedTuple):
    """The pixels of rows top..bottom - 1 and columns left..right - 1."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """What to index the last two dimensions with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Parts(Protocol):
    """A picture of which any rectangle can be read."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W)."""

    def read(self, where: Rectangle) -> Tensor:
        """Return pixels as an image (1, 3, h, w)."""


class InMemory:
    """A tensor (1, 3, H, W) or (3, H, W) as a picture to be read by parts."""

    def __init__(self, image: Tensor) -> None:
        if image.shape[:-2] not in (torch.Size((1, 3)), torch.Size((3,))):
            raise ValueError(f"a picture must have the shape (1, 3, H, W) or (3, H, W), got {tuple(image.shape)}")
        self._image = image.reshape(image.shape[-3:])
        self.shape = cast(tuple[int, int, int], tuple(self._image.shape))

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop - 1."""
        return self._image[:, start:stop]

    def read(self, where: Rectangle) -> Tensor:
        """Return pixels as an image (1, 3, h, w)."""
        return self._image[(None, slice(None), *where.slices)]


class Canvas:
    """A picture (3, H, W) in a file of float32, of which only what is read or written is ever in memory.

    Not half precision: the roundings of four steps, each up to 1/4096, would add up to a quarter of an 8-bit step.
    Values are not clipped. As a context manager, or by :meth:`close`, it removes its file and what goes with it.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], *, beside: tuple[Path, ...] = ()) -> None:
        self.path, self.shape, self._beside = path, shape, beside

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int, int]) -> Canvas:
        """Return a canvas of zeros. Raises ValueError, in one line, where there is no room for it."""
        size = 4 * shape[0] * shape[1] * shape[2]
        try:
            with path.open("wb") as file:
                # Room is taken now: a disk that fills up under a mapped file ends the process.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise ValueError(
                f"{path.parent} does not take {size / 1e9:.2g} GB of pixels ({error.strerror}): "
                "free some space or work in another folder"
            ) from None
        return cls(path, shape)

    def whole(self) -> bool:
        """Return whether the file is there, in its size."""
        return self.path.is_file() and self.path.stat().st_size == 4 * self.shape[0] * self.shape[1] * self.shape[2]

    def read(self, where: Rectangle) -> Tensor:
        """Return pixels as an image (1, 3, h, w)."""
        # Mapped anew each time: pages that stay mapped count as memory of the process.
        pixels = np.memmap(self.path, np.float32, "r", shape=self.shape)
        return torch.from_numpy(np.array(pixels[(slice(None), *where.slices)]))[None]

    def write(self, where: Rectangle, image: Tensor) -> None:
        """Put an image (1, 3, h, w) in its place."""
        pixels = np.memmap(self.path, np.float32, "r+", shape=self.shape)
        pixels[(slice(None), *where.slices)] = image[0].cpu().float().numpy()

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop - 1, (3, stop - start, W), not clipped."""
        return self.read(Rectangle(start, stop, 0, self.shape[2]))[0]

    def strips(self, height: int) -> Iterator[Rectangle]:
        """Give strips of so many rows from top to bottom; the last may have fewer."""
        for top in range(0, self.shape[1], height):
            yield Rectangle(top, min(self.shape[1], top + height), 0, self.shape[2])

    def close(self) -> None:
        """Remove the file, and the folder that was made for it."""
        for path in (self.path, *self._beside):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()

    def __enter__(self) -> Canvas:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self.close()
