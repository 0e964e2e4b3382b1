"""Weight files: whole or not at all, and read through safetensors alone."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from style_helpers import draw, random_update

from apps.style_transfer import load_solver
from apps.style_transfer.learned.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from apps.style_transfer.learned.update import Architecture, GramUpdate
from apps.style_transfer.weights import EMBEDDED_SOLVER, EMBEDDED_VGG, read_tensors, write_tensors

UNUSUAL = Architecture(
    channels=(3, 5, 4),
    convolutions=(2, 1, 3),
    kinds=("gradient", "whitening"),
    bounded=False,
    colours=False,
    padding="zeros",
)


@pytest.mark.parametrize(
    "architecture", [UNUSUAL, replace(UNUSUAL, bounded=True, colours=True)], ids=["bare", "bounded"]
)
def test_a_solver_comes_back_as_it_was_written(tmp_path: Path, architecture: Architecture) -> None:
    update = random_update(architecture)
    path = tmp_path / "solver.safetensors"
    write_checkpoint(path, Checkpoint(update.state_dict(), architecture, {"note": "any text"}))
    assert read_checkpoint(path).header["note"] == "any text"
    solver = load_solver(path)
    assert isinstance(solver.update, GramUpdate)
    assert solver.update.architecture == architecture
    assert solver.steps == 2
    x, style = draw(20, 20), draw(20, 20, phase=1)
    with torch.no_grad():
        expected = update(x, update.encode(style), 1)
    assert all(torch.equal(v, update.state_dict()[k]) for k, v in solver.update.state_dict().items())
    torch.testing.assert_close(solver.update(x, solver.update.encode(style), 1), expected, rtol=1e-3, atol=1e-7)


def test_half_precision_weights_are_used_in_single(tmp_path: Path) -> None:
    update = random_update(UNUSUAL)
    path = tmp_path / "solver.safetensors"
    write_checkpoint(path, Checkpoint({k: v.half() for k, v in update.state_dict().items()}, UNUSUAL, {}))
    assert {p.dtype for p in load_solver(path).parameters()} == {torch.float32}


def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "solver.safetensors"
    write_tensors(path, {"a": torch.ones(3)}, {})

    def save(tensors: object, target: str, header: object) -> None:
        Path(target).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("apps.style_transfer.weights.save_file", save)
    with pytest.raises(OSError, match="No space"):
        write_tensors(path, {"a": torch.zeros(3)}, {})
    assert torch.equal(read_tensors(path)["a"], torch.ones(3))
    assert os.listdir(tmp_path) == ["solver.safetensors"]


def test_the_shipped_weights_load_and_run() -> None:
    solver = load_solver()
    assert isinstance(solver.update, GramUpdate)
    assert solver.steps == 4
    x = solver(draw(17, 31), solver.update.encode(draw(20, 20, phase=1))).x
    assert x.shape == (1, 3, 17, 31)
    assert bool(x.isfinite().all())


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.9, 0.1, 0.1)], ids=["black", "white", "red"])
def test_the_shipped_weights_stand_flat_pictures(colour: tuple[float, ...]) -> None:
    solver, picture = load_solver(), draw(150, 200)
    flat = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 150, 200)
    for content, style in ((flat, picture), (picture, flat), (flat, flat)):
        assert bool(solver(content, solver.update.encode(style)).x.isfinite().all())  # type: ignore[operator]


def test_the_shipped_trunk_is_the_file_that_it_was() -> None:
    recorded = (EMBEDDED_VGG.parent / "SHA256SUMS").read_text().split()
    assert EMBEDDED_VGG.name in recorded
    assert hashlib.sha256(EMBEDDED_VGG.read_bytes()).hexdigest() in recorded
    assert (EMBEDDED_VGG.parent / "LICENSE-VGG.md").exists()
    assert read_checkpoint(EMBEDDED_SOLVER).header["licence"]


def test_nothing_is_ever_unpickled() -> None:
    package = EMBEDDED_VGG.parents[1]
    for source in package.rglob("*.py"):
        text = source.read_text()
        assert "torch.load" not in text, source
        assert "import pickle" not in text, source
