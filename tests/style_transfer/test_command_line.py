"""The command line: what it writes, what it says, and that every option does something."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from style_helpers import Program, draw, save_weights
from torch import Tensor

from apps.style_transfer import cli
from apps.style_transfer import demo as demo_module
from apps.style_transfer.files.images import read_image, to_pil
from apps.style_transfer.transfer import SOLVERS
from apps.style_transfer.vgg import VGG19

Stylize = Callable[..., dict[str, Any]]


@pytest.fixture
def stylize(program: Program, content_file: Path, style_file: Path, weights: Path, tmp_path: Path) -> Stylize:
    """Run a stylisation with the small solver and return the report, the picture under "image"."""

    def call(*arguments: object, content: Path = content_file) -> dict[str, Any]:
        output = tmp_path / "out.png"
        base = ["-c", content, "-s", style_file, "-o", output, "--overwrite", "--weights", weights]
        base += ["--json", "--device", "cpu"]
        status, out, err = program(*base, *arguments)
        assert status == 0, err
        report: dict[str, Any] = json.loads(out)
        return {**report, "image": read_image(output).rgb, "stderr": err}

    return call


def run_as_command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "apps.style_transfer", *map(str, arguments)]
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_a_run_as_a_command(tmp_path: Path, content_file: Path, style_file: Path, weights: Path) -> None:
    arguments = ["stylize", "-c", content_file, "-s", style_file, "--weights", weights, "--json", "--size", "31"]
    done = run_as_command(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["size"] == [31, 21]
    assert read_image(tmp_path / "content_stylized_style.png").rgb.shape[-2:] == (21, 31)
    assert "Traceback" not in done.stderr


def test_a_mistake_as_a_command(tmp_path: Path, style_file: Path) -> None:
    done = run_as_command("-c", "absent.jpg", "-s", style_file, "-o", "out.png", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "unroll-style: no picture at absent.jpg: check the path\n"
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("command", [(), ("stylize",), ("train",), ("demo",)])
def test_help_lists_the_options(program: Program, command: tuple[str, ...]) -> None:
    status, out, err = program(*command, "--help")
    assert status == 0
    assert err == ""
    expected = {(): "stylize", ("stylize",): "--photo-weight", ("train",): "--resume", ("demo",): "--out"}[command]
    assert expected in out


def test_the_report(stylize: Stylize) -> None:
    report = stylize("--projector", "tikhonov")
    for name in ("content_loss", "style_loss", "total_loss"):
        assert len(report[name]) == 5
    assert report["content_loss"][0] == 0
    total = [c + 1e-4 * s for c, s in zip(report["content_loss"], report["style_loss"], strict=True)]
    assert report["total_loss"] == pytest.approx(total)
    assert report["seconds"] > 0
    assert report["size"] == [48, 32]
    assert report["losses_measured_at"] == [48, 32]
    assert (report["solver"], report["projector"], report["device"]) == ("learned", "tikhonov", "cpu")
    assert str(report["options"]["alpha"]) == "1.0"


@pytest.mark.parametrize("solver", SOLVERS)
def test_alpha_0_returns_the_photograph(stylize: Stylize, content_file: Path, solver: str) -> None:
    report = stylize("--alpha", "0", "--solver", solver, "--steps", "2", "--k", "12")
    assert torch.equal(report["image"], read_image(content_file).rgb)
    for name in ("content_loss", "style_loss", "total_loss"):
        assert report[name] == report[name][:1] * 3


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ("", "--solver gatys --steps 3"),
        ("", "--projector tikhonov"),
        ("", "--projector box"),
        ("", "--photo"),
        ("", "--steps 1"),
        ("", "--alpha 0.5"),
        ("--projector matting --k 12", "--k 0.1"),
        ("--projector matting --k 12", "--domain image"),
        ("--projector matting --k 12", "--projector matting-chebyshev"),
        ("--projector matting-chebyshev --k 12", "--order 10"),
        ("--projector tikhonov", "--gamma 1"),
        ("--projector tikhonov", "--projector tikhonov-coarse"),
        ("--projector matting --k 12", "--projector matting-coarse"),
        ("--photo", "--energy 1e-5"),
        ("--photo --energy 1e-5", "--eps 1e-2"),
        ("--photo", "--projector none"),
        ("--photo", "--domain image"),
        ("--photo", "--photo-strength 0.5"),
        ("", "--photo-strength 0.5"),
        ("--projector tikhonov", "--photo-strength 0.5"),
        ("", "--style-scale 2"),
        ("", "--preserve-color luminance"),
        ("", "--preserve-color histogram"),
        ("", "-s hokusai-great-wave --style-weights 1 1"),
        ("-s hokusai-great-wave --style-weights 1 1", "--style-weights 1 3"),
        ("--solver gd --steps 3", "--style-weight 5e-5"),
        ("--solver gd --steps 3", "--content-weight 100"),
        ("--solver luan --steps 3", "--photo-weight 1e6"),
        ("--solver gd --steps 3 --k 12", "--solver projected"),
        ("--solver gatys --steps 3", "--solver luan"),
        ("--solver gatys --steps 3", "--solver gd"),
    ],
)
def test_each_option_changes_the_result(stylize: Stylize, base: str, change: str) -> None:
    plain, changed = stylize(*base.split()), stylize(*base.split(), *change.split())
    assert not torch.equal(plain["image"], changed["image"])


def test_the_weights_change_the_result(stylize: Stylize, tmp_path: Path) -> None:
    others = save_weights(tmp_path / "others.safetensors", seed=1)
    assert not torch.equal(stylize()["image"], stylize("--weights", others)["image"])


def test_the_trunk_changes_the_result(stylize: Stylize, monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(cls: type[VGG19]) -> VGG19:
        trunk = cls()
        trunk.scale.mul_(0.5)
        return trunk

    monkeypatch.setattr(VGG19, "torchvision", classmethod(scaled))
    plain, other = (stylize("--solver", "gd", "--steps", "2", "--vgg", v) for v in ("embedded", "torchvision"))
    assert not torch.equal(plain["image"], other["image"])
    assert plain["style_loss"][0] != other["style_loss"][0]


@pytest.mark.parametrize(("width", "height"), [(17, 31), (16, 16), (47, 18)])
def test_the_result_has_the_size_of_the_photograph(stylize: Stylize, tmp_path: Path, width: int, height: int) -> None:
    content = tmp_path / "odd.png"
    to_pil(draw(height, width)).save(content)
    report = stylize(content=content)
    assert report["size"] == [width, height]
    assert report["image"].shape[-2:] == (height, width)


def test_size_is_the_longest_side(stylize: Stylize) -> None:
    report = stylize("--size", "96")
    assert report["size"] == [96, 64]
    assert report["image"].shape[-2:] == (64, 96)


def test_alpha_and_profile_are_carried_through_and_not_stylised_into(
    stylize: Stylize, tmp_path: Path, photo: Tensor
) -> None:
    rgb = np.asarray(to_pil(photo))
    alpha = np.arange(32 * 48).reshape(32, 48).astype(np.uint8)
    content = tmp_path / "cut-out.png"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.dstack([rgb, alpha])).save(content, icc_profile=profile)
    plain, report = stylize(), stylize(content=content)
    assert torch.equal(plain["image"], report["image"])
    written = read_image(tmp_path / "out.png")
    assert written.alpha is not None
    np.testing.assert_array_equal(written.alpha, alpha)
    assert written.icc_profile == profile
    stylize("--size", "24", content=content)
    smaller = read_image(tmp_path / "out.png").alpha
    assert smaller is not None
    assert smaller.shape == (16, 24)


def test_an_upright_picture_comes_out_of_a_turned_one(stylize: Stylize, tmp_path: Path, photo: Tensor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tmp_path / "turned.png"
    to_pil(photo).transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    assert torch.equal(stylize(content=turned)["image"], stylize()["image"])


def test_only_the_report_is_on_standard_output(
    program: Program, content_file: Path, style_file: Path, weights: Path, tmp_path: Path
) -> None:
    base = ["-c", content_file, "-s", style_file, "-o", tmp_path / "out.png", "--overwrite", "--weights", weights]
    status, out, err = program(*base)
    assert (status, out) == (0, "")
    assert "out.png" in err
    status, out, err = program(*base, "--json")
    assert len(out.splitlines()) == 1


def test_no_argument_at_all_runs_the_demo(program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_module, "GATYS_STEPS", 2)
    monkeypatch.setattr(cli, "demo", functools.partial(demo_module.demo, size=32))
    status, out, err = program()
    assert (status, out) == (0, "")
    assert str(Path("out") / "demo.png") in err
    names = {p.name for p in Path("out").iterdir()}
    assert {"demo.png", "content.png", "style.png", "learned-artistic.png", "learned-photorealistic.png"} < names
    assert read_image(Path("out/demo.png")).rgb.shape[-1] > 5 * 32
    artistic, photorealistic = (
        read_image(Path("out") / f"learned-{n}.png").rgb for n in ("artistic", "photorealistic")
    )
    assert not torch.equal(artistic, photorealistic)
    program("demo", "--out", "elsewhere")
    assert Path("elsewhere/demo.png").exists()
