"""Weight files: where the embedded ones are, and reading and writing safetensors. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from apps.style_transfer.files.writing import replacing

_FOLDER = Path(__file__).parent
EMBEDDED_VGG = _FOLDER / "vgg19_conv1_1-conv4_2_fp16.safetensors"
EMBEDDED_SOLVER = _FOLDER / "solver.safetensors"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; ValueError where it is not one."""
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def read_header(path: Path) -> dict[str, str]:
    """Return the header of a safetensors file, text by name; ValueError where it is not one."""
    with _open(path) as file:
        return dict(file.metadata() or {})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors with a header, whole or not at all; ValueError where there is no room for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as beside:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, dict(header))
    except SafetensorError as error:
        raise ValueError(f"cannot write {path} ({error}): free some space or choose another path") from None


def _open(path: Path) -> safe_open:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: give the path of a .safetensors file")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch or train it again") from None
