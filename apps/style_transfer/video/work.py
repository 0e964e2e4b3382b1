"""The work folder of a video: finished segments, and where the next run goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from apps.style_transfer.files.writing import clear_partial, lock
from apps.style_transfer.video.writing import SEGMENT_SUFFIX
from apps.style_transfer.weights import read_header, read_tensors, write_tensors


class Work:
    """Segments in a folder, of which those are whole that ``state.safetensors`` counts; it is written after each.

    Attributes:
        segments: how many are finished.
        frames: how many frames these have together.
        image: the last frame restyled, (1, 3, H, W) float32 in [0, 1], as the next one needs it; None before the first.
    """

    def __init__(self, folder: Path, inputs: str) -> None:
        self.folder, self._inputs = folder, inputs
        self.segments, self.frames = 0, 0
        self.image: Tensor | None = None
        self._state = folder / "state.safetensors"
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._find()

    def _find(self) -> None:
        header = read_header(self._state)
        segments, frames = int(header["segments"]), int(header["frames"])
        if header["inputs"] == self._inputs and all(self.path(i).is_file() for i in range(segments)):
            self.image = read_tensors(self._state)["image"]
            self.segments, self.frames = segments, frames

    def path(self, i: int) -> Path:
        """Return the file of segment i."""
        return self.folder / f"{i:06d}{SEGMENT_SUFFIX}"

    def paths(self) -> list[Path]:
        """Return the files of the finished segments."""
        return [self.path(i) for i in range(self.segments)]

    def finished(self, frames: int, image: Tensor) -> None:
        """Note that the next segment is whole, of so many frames, the last one ``image``."""
        header = {"segments": self.segments + 1, "frames": self.frames + frames}
        write_tensors(
            self._state,
            {"image": image.detach().float().cpu()},
            {"inputs": self._inputs, **{name: str(value) for name, value in header.items()}},
        )
        self.segments, self.frames, self.image = header["segments"], header["frames"], image

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def working(folder: Path, inputs: str) -> Iterator[Work]:
    """Open a work folder, made if it is not there, and find in it what a run of the same inputs has finished.

    One run at a time may. Raises ValueError, in one line, where another has it, or the folder cannot be made.
    """
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ValueError(f"cannot work in {folder} ({error.strerror}): choose another folder with -o") from None
    try:
        if not lock(handle):
            raise ValueError(f"another run is at work in {folder}: wait for it, or give another name with -o")
        clear_partial(folder)
        yield Work(folder, inputs)
    finally:
        os.close(handle)
