"""What README, docs and examples show, runs."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def example(name: str) -> Callable[..., dict[str, Any]]:
    matplotlib.use("Agg")
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]  # type: ignore[no-any-return]


def run_block(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    import torch

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_readme_learned_solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = BLOCKS[0]
    names = run_block(code, tmp_path, monkeypatch)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    start, inside, truth = 1 / 3, names["inside"], names["truth"]
    assert bool(((inside >= 0) & (inside <= 1)).all())
    assert float((inside.detach() - truth).square().mean()) < 0.4 * start
    assert len({p.item() for p in names["solver"].parameters()}) > 1


def test_readme_bandlimited_projector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_block(BLOCKS[1], tmp_path, monkeypatch)
    photo, clean, basis = names["photo"], names["clean"], names["basis"].vectors.float()
    change = (clean - photo).flatten(2)[0].T
    assert float((change - basis @ (basis.T @ change)).norm()) < 1e-4 * float(change.norm())
    assert float(change.square().mean().sqrt()) < 0.5 * 0.2


def test_readme_style_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphs import matting

    names = run_block(BLOCKS[2], tmp_path, monkeypatch)
    content, artistic, photo = names["content"], names["artistic"].image, names["photorealistic"].image
    assert size_of(tmp_path / "artistic.png") == (content.shape[-1], content.shape[-2])
    laplacian = matting(content)
    rough, smooth = (float(laplacian.quadratic(x - content)) for x in (artistic, photo))
    assert 0 < smooth < 0.2 * rough


def test_example_learned_solver(tmp_path: Path) -> None:
    curves = example("learned_solver")(tmp_path, training_steps=150)
    assert curves["learned ISTA"][-1] < curves["ISTA"][-1] - 3
    assert curves["ISTA"] == sorted(curves["ISTA"], reverse=True)
    assert size_of(tmp_path / "learned_solver.png")[0] > 100


def test_example_bandlimited_projector(tmp_path: Path) -> None:
    left = example("bandlimited_projector")(tmp_path, size=48, k=40)
    assert set(left) == {"exact", "Chebyshev", "Tikhonov"}
    # White noise spreads over all n frequencies: of its energy k / n is left by the projection.
    assert left["exact"] ** 2 == pytest.approx(40 / (48 * 36), rel=0.4)
    assert all(0 < part < 0.5 for part in left.values())
    assert size_of(tmp_path / "bandlimited_projector.png")[0] > 1000


def test_example_style_transfer(tmp_path: Path) -> None:
    energy = example("style_transfer")(tmp_path, size=64)
    assert 0 < energy["photorealistic"] < 0.2 * energy["artistic"]
    assert size_of(tmp_path / "style_transfer.png")[1] > 64


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text())
    missing = [link for link in links if not link.startswith("http") and not (document.parent / link).exists()]
    assert missing == []


def test_every_option_the_readme_names_exists() -> None:
    from apps.style_transfer.cli import _parser

    lines = re.findall(
        r"^python -m apps\.style_transfer (.*?)(?: *#.*)?$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(lines) >= 4
    for line in lines:
        words = line.split()
        _parser().parse_args(words if words[0] == "train" else ["stylize", *words])
