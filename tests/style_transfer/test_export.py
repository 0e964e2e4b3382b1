"""The exported solver: the same picture in other runtimes, at every size."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from style_helpers import Program, draw, random_update
from torch import Tensor
from torch.export import ExportedProgram

from apps.style_transfer import Stylizer
from apps.style_transfer.export import program as export_module
from apps.style_transfer.export.guided import GUIDED, TraceableGuidedFilter
from apps.style_transfer.export.program import Portable, trace, write
from apps.style_transfer.files.images import to_pil
from apps.style_transfer.learned.update import Architecture, GramUpdate, Kind
from apps.style_transfer.projectors import ProjectorOptions
from graphs import Around, GuidedFilter
from unroll import Scaled, Unrolled

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES = [((50, 67), (41, 35)), ((64, 64), (32, 32)), ((33, 48), (64, 57)), ((101, 16), (16, 17)), ((16, 16), (17, 16))]


class Exported(NamedTuple):
    """What a solver does, the program traced from it, and its ONNX file."""

    expected: Callable[..., Tensor]
    program: ExportedProgram
    onnx: Path


def solver(*kinds: Kind, channels: tuple[int, ...]) -> Unrolled:
    convolutions = (1,) * len(channels)
    update = random_update(Architecture(channels=channels, convolutions=convolutions, kinds=kinds))
    return Unrolled(update.requires_grad_(False), steps=len(kinds))


def exported(portable: Portable, expected: Callable[..., Tensor], folder: Path) -> Exported:
    program = trace(portable)
    write(program, folder / "solver.onnx", "onnx")
    return Exported(expected, program, folder / "solver.onnx")


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Any style, no projector; two kinds of steps. The time that it takes to trace grows with steps times levels."""
    unrolled = solver("whitening", "gradient", channels=(4, 5))

    def expected(content: Tensor, style: Tensor) -> Tensor:
        return unrolled(content, unrolled.update.encode(style)).x.clamp(0, 1)  # type: ignore[no-any-return,operator]

    return exported(Portable(unrolled), expected, tmp_path_factory.mktemp("free"))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One style, the guided filter in the loop, shorter steps; one level more."""
    unrolled = solver("whitening", channels=(4, 5, 6))
    assert isinstance(unrolled.update, GramUpdate)
    style = unrolled.update.encode(draw(30, 40, phase=1.0))
    shorter = Unrolled(Scaled(unrolled.update, 0.7), steps=1)

    def expected(content: Tensor) -> Tensor:
        projector = Around(GuidedFilter(content, 5, 1e-3), content)
        return shorter(content, style, projector=projector).x.clamp(0, 1)  # type: ignore[no-any-return]

    portable = Portable(unrolled, style, projector=ProjectorOptions("guided", radius=5, eps=1e-3), alpha=0.7)
    return exported(portable, expected, tmp_path_factory.mktemp("fixed"))


def in_onnxruntime(path: Path, **images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["image"], {name: image.numpy() for name, image in images.items()})
    return torch.from_numpy(found)


def psnr(x: Tensor, y: Tensor) -> float:
    return float(-10 * (x - y).square().mean().log10())


def test_every_size_gives_the_picture_of_the_solver(free: Exported, tmp_path: Path) -> None:
    path = tmp_path / "solver.pt2"
    write(free.program, path, "torch")
    assert b"apps/style_transfer/" not in path.read_bytes()  # it says nothing of this machine
    loaded = torch.export.load(path).module()
    for size, style_size in SIZES:
        content, style = draw(*size), draw(*style_size, phase=2.0)
        expected = free.expected(content, style)
        assert psnr(expected, content) < 30
        torch.testing.assert_close(loaded(content, style), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(in_onnxruntime(free.onnx, content=content, style=style), expected, rtol=0, atol=1e-4)


def test_a_fixed_style_and_a_projector_go_into_the_file(fixed: Exported) -> None:
    program = fixed.program.module()
    for size, _ in SIZES:
        content = draw(*size)
        expected = fixed.expected(content)
        assert psnr(expected, content) < 40
        torch.testing.assert_close(program(content), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(in_onnxruntime(fixed.onnx, content=content), expected, rtol=0, atol=1e-4)


def test_the_files_say_what_they_take_and_nothing_of_this_machine(free: Exported, fixed: Exported) -> None:
    for found, names in ((free, ["content", "style", "image"]), (fixed, ["content", "image"])):
        model = onnx.load(found.onnx)
        onnx.checker.check_model(model)
        ports = {port.name: port for port in (*model.graph.input, *model.graph.output)}
        assert list(ports) == names
        axes = {name: [d.dim_param or d.dim_value for d in p.type.tensor_type.shape.dim] for name, p in ports.items()}
        assert axes["content"] == axes["image"] == [1, 3, "height", "width"]
        assert axes.get("style", axes["content"])[2:] in (["style_height", "style_width"], ["height", "width"])
        assert model.opset_import[0].version == export_module.OPSET
        assert b"apps/style_transfer/" not in found.onnx.read_bytes()


@pytest.mark.parametrize(("radius", "eps"), [(1, 1e-2), (4, 1e-4), (15, 1e-6)])
def test_the_guided_filter_is_that_of_graphs(radius: int, eps: float) -> None:
    guide, signal = draw(23, 18), torch.randn(1, 3, 23, 18, generator=torch.Generator().manual_seed(0))
    found = TraceableGuidedFilter(guide, radius, eps)(signal)
    torch.testing.assert_close(found, GuidedFilter(guide, radius, eps)(signal), rtol=1e-5, atol=1e-5)


@pytest.fixture
def export(
    program: Program, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Callable[..., Tensor]]:
    """Run the command as far as the solver that it would trace, and return that."""

    def call(*arguments: object) -> Callable[..., Tensor]:
        caught: list[Any] = []
        monkeypatch.setattr(export_module, "trace", lambda portable: caught.append(portable))
        monkeypatch.setattr(export_module, "write", lambda program, path, kind: path.write_text(kind))
        status, _, err = program("export", "-o", tmp_path / "a.onnx", "--weights", weights, "--overwrite", *arguments)
        assert status == 0, err
        (portable,) = caught
        return portable  # type: ignore[no-any-return]

    return call


def test_the_options_reach_the_solver(
    export: Callable[..., Callable[..., Tensor]], weights: Path, photo: Tensor, style_file: Path, content_file: Path
) -> None:
    stylizer, sources = Stylizer(weights, "cpu"), [style_file, content_file]
    plain = export("-s", style_file)(photo)
    torch.testing.assert_close(plain, stylizer(photo, stylizer.style(style_file)).image, rtol=0, atol=1e-5)
    blended = export("-s", *sources, "--style-weights", 0.8, 0.2, "--size", 30, "--alpha", 0.5)(photo)
    style = stylizer.style(sources, weights=[0.8, 0.2], size=30)
    torch.testing.assert_close(blended, stylizer(photo, style, alpha=0.5).image, rtol=0, atol=1e-5)
    guided = export("-s", style_file, "--projector", "guided", "--radius", 3, "--eps", 0.01)(photo)
    operator = Around(GuidedFilter(photo, 3, 0.01), photo)
    expected = stylizer(photo, stylizer.style(style_file), projector=operator).image
    torch.testing.assert_close(guided, expected, rtol=0, atol=1e-5)
    assert psnr(guided, plain) < 40
    assert torch.equal(export("--alpha", 0)(photo, photo), photo)


def test_the_format_goes_by_the_name_or_the_option(
    export: Callable[..., Callable[..., Tensor]], tmp_path: Path
) -> None:
    for arguments, kind in (((), "onnx"), (("-o", tmp_path / "a.pt2"), "torch"), (("--format", "torch"), "torch")):
        export(*arguments)
        assert Path(arguments[1] if "-o" in arguments else tmp_path / "a.onnx").read_text() == kind


@pytest.mark.parametrize("change", [{"name": "matting"}, {"domain": "image"}, {"strength": 0.5}, {"again": 2}], ids=str)
def test_what_no_graph_can_carry_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="can be exported with none or guided"):
        Portable(solver("whitening", channels=(4, 5)), projector=replace(GUIDED, **change))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "a.png"), "end it in .onnx or .pt2"),
        (("-o", "absent/a.onnx"), "does not exist: create it"),
        (("-o", "there.onnx"), "say --overwrite"),
        (("-o", "a.onnx", "--size", "64"), "give --style"),
        (("-o", "a.onnx", "--alpha", "nan"), "alpha must be"),
        (("-o", "a.onnx", "--projector", "guided", "--radius", "0"), "at least 1"),
        (("-o", "a.onnx", "--projector", "guided", "--eps", "0"), "above 0"),
        (("-o", "a.onnx", "-s", "no-such-style"), "no style no-such-style"),
        (("-o", "a.onnx", "--weights", "there.onnx"), "there.onnx"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").write_text("mine")
    status, out, err = program("export", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]
    assert Path("there.onnx").read_text() == "mine"


def test_without_its_packages_onnx_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    with pytest.raises(ValueError, match=r"pip install 'unroll-style\[onnx\]'"):
        write(program, tmp_path / "a.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_the_python_example_makes_the_picture(
    free: Exported, content_file: Path, style_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.png"
    arguments = [str(path) for path in (free.onnx, content_file, style_file, output)]
    monkeypatch.setattr(sys, "argv", ["onnx_python.py", *arguments])
    runpy.run_path(str(EXAMPLES / "onnx_python.py"), run_name="__main__")
    content = Image.open(content_file)
    style = Image.open(style_file).resize((34, 48), Image.Resampling.BICUBIC)
    planes = [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 for image in (content, style)]
    difference = np.asarray(Image.open(output), int) - np.asarray(to_pil(free.expected(*planes)), int)
    assert abs(difference).max() <= 1
    imported = re.findall(r"^(?:import|from) (\w+)", (EXAMPLES / "onnx_python.py").read_text(), re.MULTILINE)
    assert set(imported) == {"sys", "numpy", "onnxruntime", "PIL"}


def test_the_javascript_example_feeds_what_the_file_takes(free: Exported) -> None:
    source = (EXAMPLES / "onnx_javascript.mjs").read_text()
    session = onnxruntime.InferenceSession(free.onnx)
    assert f".run({{ {', '.join(port.name for port in session.get_inputs())} }})" in source
    assert f"const {{ {session.get_outputs()[0].name} }} =" in source


if node := shutil.which("node"):

    def test_the_javascript_example_parses() -> None:
        done = subprocess.run([node, "--check", EXAMPLES / "onnx_javascript.mjs"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
