"""Checkpoints: tensors and an architecture in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from apps.style_transfer.learned.update import Architecture, GramUpdate
from apps.style_transfer.weights import EMBEDDED_SOLVER, read_header, read_tensors, write_tensors
from unroll import Unrolled

_FORMAT = "gram-update/2"


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
    try:
        fields = json.loads(header["architecture"])
        lists = {name: tuple(fields[name]) for name in ("channels", "convolutions", "kinds")}
        architecture = Architecture(**{**fields, **lists})
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path} is of an architecture that this version does not know: train or fetch it anew"
        ) from None
    return Checkpoint(read_tensors(path), architecture, header)


def load_solver(path: Path = EMBEDDED_SOLVER) -> Unrolled:
    """Return the learned solver of a weights file, in float32 on the CPU, ready for inference.

    Its update is a :class:`GramUpdate`, so ``solver.update.encode(style)`` makes the data of a call.
    """
    checkpoint = read_checkpoint(path)
    update = GramUpdate(checkpoint.architecture)
    try:
        update.load_state_dict(dict(checkpoint.tensors))
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its architecture: {' '.join(str(error).split())[:200]}") from None
    update.requires_grad_(False)
    return Unrolled(update, steps=checkpoint.architecture.steps)
