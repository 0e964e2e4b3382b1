"""Checkpoints: tensors and an architecture in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from apps.style_transfer.learned.update import Architecture, GramUpdate, Padding
from apps.style_transfer.weights import EMBEDDED_SOLVER, read_header, read_tensors, write_tensors
from unroll import Unrolled

_FORMAT = "gram-update/3"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, the architecture they belong to, and a header of further text."""

    tensors: Mapping[str, Tensor]
    architecture: Architecture
    header: Mapping[str, str]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    fixed = {"format": _FORMAT, "architecture": json.dumps(checkpoint.architecture.as_dict())}
    write_tensors(path, checkpoint.tensors, {**checkpoint.header, **fixed})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; ValueError where the file is broken or of another kind."""
    header = read_header(path)
    if header.get("format") != _FORMAT:
        raise ValueError(f"{path} does not hold a solver of this program (its header lacks format = {_FORMAT})")
    tensors = read_tensors(path)
    try:
        fields = json.loads(header["architecture"])
        lists = {name: tuple(fields[name]) for name in ("channels", "convolutions", "kinds")}
        architecture = Architecture(**{**fields, **lists})
        _check_numbers(architecture, len(tensors))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise ValueError(
            f"{path} is of an architecture that this version does not know: train or fetch it anew"
        ) from None
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.float().isfinite().all()):
            raise ValueError(f"{path} has weights in {name[:80]!r} that are no finite numbers: train or fetch it anew")
    return Checkpoint(tensors, architecture, header)


def _check_numbers(architecture: Architecture, tensors: int) -> None:
    """Raise ValueError where a header asks for more than the file can hold, before room is made for it."""
    numbers = (*architecture.channels, *architecture.convolutions, architecture.whitening_levels)
    if not all(type(n) is int and n > 0 for n in numbers):
        raise ValueError("an architecture of numbers that mean nothing")
    if sum(sum(architecture.convolutions[: architecture.depth(kind)]) for kind in architecture.kinds) > tensors:
        raise ValueError("an architecture of more maps than there are tensors")
    if architecture.padding not in get_args(Padding):
        raise ValueError("an architecture of another padding")
    if not all(isinstance(flag, bool) for flag in (architecture.bounded, architecture.colours)):
        raise ValueError("an architecture of flags that are none")


def load_solver(path: Path = EMBEDDED_SOLVER) -> Unrolled:
    """Return the learned solver of a weights file, in float32 on the CPU, ready for inference.

    Its update is a :class:`GramUpdate`, so ``solver.update.encode(style)`` makes the data of a call.
    """
    checkpoint = read_checkpoint(path)
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the header says, and draws no random numbers
            update = GramUpdate(checkpoint.architecture)
        expected = {name: tensor.shape for name, tensor in update.state_dict().items()}
        if expected != {name: tensor.shape for name, tensor in checkpoint.tensors.items()}:
            raise RuntimeError("names and shapes of its tensors are others")
        update.load_state_dict({name: tensor.float() for name, tensor in checkpoint.tensors.items()}, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its architecture: {' '.join(str(error).split())[:200]}") from None
    update.requires_grad_(False)
    return Unrolled(update, steps=checkpoint.architecture.steps)
