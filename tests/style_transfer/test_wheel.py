"""The wheel, installed alone, runs outside the checkout: its weights and pictures travel with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE, gallery, read_image

ROOT = Path(__file__).parents[2]


def test_the_wheel_runs_outside_the_checkout(tmp_path: Path, content_file: Path, style_file: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(target)
    packages = {p.relative_to(target).parts[0] for p in target.rglob("*.py")}
    assert packages == {"apps", "graphs", "unroll"}
    for name in ("unroll/py.typed", "graphs/py.typed", "apps/style_transfer/py.typed"):
        assert (target / name).exists()
    assert (target / "apps/style_transfer/weights/LICENSE-VGG.md").exists()
    assert (target / "apps/style_transfer/serve/page/page.js").exists()
    for picture in (EXAMPLE_CONTENT, EXAMPLE_STYLE, *(entry.path for entry in gallery().values())):
        assert (target / picture.resolve().relative_to(ROOT)).exists()
    assert not list(target.rglob("__pycache__"))

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "apps.style_transfer", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    done = run("-c", content_file, "-s", style_file, "-o", "out.png", "--size", "24", "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["size"] == [24, 16]
    assert read_image(tmp_path / "out.png").rgb.shape[-2:] == (16, 24)
    done = run("style", "list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(gallery())
