"""Small pictures, small weights, and ways to run the program."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from style_helpers import Program, draw, save_weights
from torch import Tensor

from apps.style_transfer.cli import run
from apps.style_transfer.files.images import to_pil
from apps.style_transfer.vgg import VGG19


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(scope="session")
def vgg() -> VGG19:
    return VGG19()


@pytest.fixture(scope="session")
def vgg64() -> VGG19:
    return VGG19().double()


@pytest.fixture(scope="session")
def photo() -> Tensor:
    return draw(32, 48)


@pytest.fixture(scope="session")
def painting() -> Tensor:
    return draw(40, 28, phase=2.0, roughness=0.2)


@pytest.fixture
def content_file(tmp_path: Path, photo: Tensor) -> Path:
    path = tmp_path / "content.png"
    to_pil(photo).save(path)
    return path


@pytest.fixture
def style_file(tmp_path: Path, painting: Tensor) -> Path:
    path = tmp_path / "style.png"
    to_pil(painting).save(path)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a small random solver: nothing may depend on how good the shipped one is."""
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    """Run a command line in this process: exit status, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = run([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return call
