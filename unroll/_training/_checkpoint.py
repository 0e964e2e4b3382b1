"""Checkpoints: written whole or not at all, read without running what is in them."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

_FORMAT = "unroll.fit/1"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its path, then rename it: at any moment there is the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    finally:
        Path(beside).unlink(missing_ok=True)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training: nested dicts and lists of tensors, numbers and strings."""
    write_whole(path, lambda file: torch.save({"format": _FORMAT, **state}, file))


def load(path: Path) -> dict[str, Any]:
    """Return the state of a training, on the CPU; ValueError where the file does not hold one.

    ``torch.load(weights_only=True)`` builds tensors and plain containers and runs nothing else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is not a whole checkpoint: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a checkpoint of unroll.fit (it lacks format = {_FORMAT})")
    return state
