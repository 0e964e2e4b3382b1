"""What the documents show runs, and means something."""

from __future__ import annotations

import doctest
import importlib.util
import pkgutil
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("**/*.md"))
GALLERY = sorted((ROOT / "examples" / "gallery").glob("*.py"))
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = CODE.findall(README)
MATHEMATICS = [
    pytest.param(code, id=f"{path.name}, {i + 1}")
    for path in sorted((ROOT / "docs").glob("**/*.md"))
    for i, code in enumerate(CODE.findall(path.read_text()))
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def run_block(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "document"}
    exec(compile(code, "document", "exec", dont_inherit=True), names)
    return names


def gallery(name: str) -> dict[str, Any]:
    """Run a script of the gallery, close its figures, and return what it has computed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    (names, drawn) = (runpy.run_path(str(ROOT / "examples" / "gallery" / f"plot_{name}.py")), plt.get_fignums())
    plt.close("all")
    assert drawn
    return names


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        return picture.size


def test_the_readme_has_three_short_examples() -> None:
    lengths = [len([line for line in code.splitlines() if line.strip()]) for code in BLOCKS]
    assert len(lengths) == 3
    assert max(lengths) <= 15


def test_readme_learned_solver_beats_ista() -> None:
    from unroll import GradientStep, SoftThreshold, Unrolled

    names = run_block(BLOCKS[0])
    a, truth = names["a"], torch.randn(500, 60) * (torch.rand(500, 60) < 0.1)
    bound = float(torch.linalg.matrix_norm(a, 2)) ** 2
    ista = Unrolled(GradientStep(names["LeastSquares"](), 1 / bound), steps=8)
    with torch.no_grad():
        exact = [
            float((ista(0 * truth, truth @ a.T, projector=SoftThreshold(weight / bound)).x - truth).square().sum())
            for weight in (0.03, 0.1, 0.2, 0.3, 0.5)
        ]
        learned = float((names["solver"](0 * truth, truth @ a.T, projector=names["soft"]).x - truth).square().sum())
    assert learned < 0.6 * min(exact)
    assert len({parameter.item() for parameter in names["solver"].parameters()}) == 8


def test_readme_projectors_are_ordered() -> None:
    from unroll import Subspace

    names = run_block(BLOCKS[1])
    photo, noisy, clean, laplacian = (names[name] for name in ("photo", "noisy", "clean", "laplacian"))
    basis = names["eigenbasis"](laplacian, k=50).vectors.float()
    rows = noisy.flatten(2)
    torch.testing.assert_close(clean.flatten(2), Subspace(basis)(rows), atol=1e-5, rtol=1e-4)
    # The photograph is in the band but for little, and k / n of the noise's energy is.
    left = float((clean - photo).square().sum() / (noisy - photo).square().sum())
    assert left == pytest.approx(50 / laplacian.n, rel=0.35)
    # The polynomial is nearer to the exact projection than the soft low-pass is.
    assert float((names["close"] - clean).norm()) < 0.8 * float((names["soft"] - clean).norm())
    for found, signal in ((names["soft"], noisy), (names["affine"] - photo, noisy - photo)):
        back = found + 1000 * laplacian.matvec(found)
        assert float((back - signal).norm()) < 1e-3 * float(signal.norm())


def test_readme_style_transfer() -> None:
    from graphs import matting

    names = run_block(BLOCKS[2])
    content, artistic, photorealistic = (names[name] for name in ("content", "artistic", "photorealistic"))
    assert size_of(Path("artistic.png")) == (content.shape[-1], content.shape[-2])
    torch.testing.assert_close(names["by_hand"], photorealistic, atol=2e-3, rtol=0)
    assert names["half_way"].size == (content.shape[-1], content.shape[-2])
    assert Path("mine.style.safetensors").stat().st_size < 400_000
    laplacian = matting(content)
    rough, smooth = (float(laplacian.quadratic(x - content)) for x in (artistic, photorealistic))
    assert 0 < smooth < 0.5 * rough


@pytest.mark.parametrize("code", MATHEMATICS)
def test_the_mathematics_checks_itself(code: str) -> None:
    assert "assert" in code
    run_block(code)


def run_example(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> list[float]:
    """Run an example as a user does, check its picture, and return the first number after the colon of each line."""
    path = ROOT / "examples" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--out", "pictures", *options])
    runpy.run_path(str(path), run_name="__main__")
    assert [picture.name for picture in Path("pictures").iterdir()] == [f"{name}.png"]
    assert min(size_of(Path("pictures") / f"{name}.png")) > 200
    return [float(line.split(": ")[1].split()[0]) for line in capsys.readouterr().out.splitlines()]


def test_example_learned_solver(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ista, learned = run_example("learned_solver", monkeypatch, capsys)
    assert learned < ista - 5 < -5


def test_example_bandlimited_projector(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    noisy, exact, chebyshev, tikhonov = run_example("bandlimited_projector", monkeypatch, capsys)
    # Noise of standard deviation 0.2, of whose energy the projection leaves k / n.
    assert noisy == pytest.approx(13.98, abs=0.1)
    assert exact == pytest.approx(noisy + 18.4, abs=0.5)  # 10 log10(72 * 96 / 100)
    assert chebyshev == pytest.approx(exact, abs=1.5)
    assert tikhonov > exact


def test_example_style_transfer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    artistic, *constrained = run_example("style_transfer", monkeypatch, capsys)
    assert len(constrained) == 2
    assert 0 < max(constrained) < 0.5 * artistic


def test_example_matting_eigenvectors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    own, mirrored = run_example("matting_eigenvectors", monkeypatch, capsys)
    assert 0 < own < 0.1 < 1 < mirrored


def test_example_projectors_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    printed = np.reshape(run_example("projectors_compared", monkeypatch, capsys), (2, 2, 9))
    (stylised, *kept), (_, *image_kept) = printed[0]
    (noise, *left), (_, *image_left) = printed[1]
    assert noise == pytest.approx(0.2, rel=0.01)
    assert left[0] == pytest.approx(noise * (200 / (96 * 128)) ** 0.5, rel=0.1)  # k / n of its energy
    assert max(left) < 0.15 * noise
    assert 0.8 * stylised < min(kept) <= max(kept) < stylised
    # The photograph lies almost in its own band, but not in that of the normalised Laplacian.
    for around, plain in ((kept, image_kept), (left, image_left)):
        smoothing_step, spoilt = around.pop(-2), plain.pop(-2)
        assert spoilt > 1.1 * smoothing_step
        np.testing.assert_allclose(plain, around, rtol=0.2)


def test_example_sampling_bandlimited(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    uniform, by_energy = np.reshape(run_example("sampling_bandlimited", monkeypatch, capsys), (2, 8))
    assert uniform[-1] < 0.01 < 10 < uniform[0]
    assert by_energy[3] < uniform[3] / 2  # 60 nodes drawn


def test_example_training(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    half_way, end, difference = run_example("training", monkeypatch, capsys)
    assert end < half_way < -10
    assert difference == 0


def test_example_study_retrained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Edge SSIM with the photograph, by the bound of the projector from tight to none, and of the retrained nets.
    *projected, light, heavy = run_example("study_retrained", monkeypatch, capsys, "--steps", "2")
    assert projected == sorted(projected, reverse=True)
    assert 1 > projected[0] > projected[-1] + 0.01
    assert heavy > max(light, projected[-1])


def test_example_options_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.style_transfer import EXAMPLE_CONTENT, read_image, resize

    path = ROOT / "examples" / "options_pictures.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--out", "pictures", "--size", "64", "--only", "alpha", "masks"])
    names = runpy.run_path(str(path), run_name="__main__")
    assert sorted(picture.name for picture in Path("pictures").iterdir()) == ["alpha.jpg", "masks.jpg"]
    photo = resize(read_image(EXAMPLE_CONTENT).rgb, 64)
    height = photo.shape[-2]
    sheets = {name: read_image(Path("pictures") / f"{name}.jpg").rgb for name in ("alpha", "masks")}
    panels = {
        name: [sheet[..., 34 : 34 + height, 8 + 72 * k : 72 + 72 * k] for k in range(4)]
        for name, sheet in sheets.items()
    }
    away = [float((panel - photo).square().mean()) for panel in panels["alpha"]]
    assert away[0] < 1e-3 < away[1] < away[2] < away[3]
    assert float((panels["masks"][2] - panels["masks"][3]).abs().mean()) > 0.01
    # What the page shows is what the script makes, and all of it.
    page = (ROOT / "docs" / "options.md").read_text()
    assert set(re.findall(r"images/options/(\w+)\.jpg", page)) == set(names["ROWS"])


def test_every_option_is_explained() -> None:
    from apps.style_transfer.cli import build_parser

    page = (ROOT / "docs" / "options.md").read_text()
    usage = build_parser()._subparsers._group_actions[0].choices["stylize"].format_usage()  # type: ignore[union-attr,index]
    options = set(re.findall(r"--[\w-]+", usage))
    assert len(options) > 30
    assert {option for option in options if f"`{option}" not in page} == set()


@pytest.mark.parametrize("page", ["photographer", "artist", "researcher"])
def test_the_commands_of_the_how_to_run(page: str) -> None:
    from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE
    from apps.style_transfer.cli import run

    wall, cottages = (Image.open(path).convert("RGB").resize((64, 48)) for path in (EXAMPLE_CONTENT, EXAMPLE_STYLE))
    halves = Image.fromarray(np.repeat(np.uint8([[255], [0]]), 24, axis=0).repeat(64, axis=1))
    for folder in ("shots", "paintings"):
        Path(folder).mkdir()
    for name, picture in {"photo": wall, "other": cottages, "painting": cottages}.items():
        picture.save(f"{name}.jpg")
    for name in ("shots/a.jpg", "shots/b.jpg", "paintings/c.jpg"):
        (cottages if name.startswith("p") else wall).save(name)
    halves.save("sky.png")
    halves.save("other-sky.png")
    lines = re.findall(r"^python -m apps\.style_transfer (.*)$", (ROOT / "docs/howto" / f"{page}.md").read_text(), re.M)
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line)
        assert run(words) == 0, line
        for option in {"-o", "--out", "--html"} & set(words):
            made = Path(words[words.index(option) + 1])
            assert any(made.iterdir()) if made.is_dir() else made.stat().st_size > 0, line


def test_example_onnx_python(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx import TensorProto, helper, save

    # image = clip(content - mean of style), which needs no solver; what a solver makes is in test_export.py.
    ports = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, f"{name}_height", f"{name}_width"])
        for name in ("content", "style", "image")
    }
    nodes = [
        helper.make_node("ReduceMean", ["style"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["content", "mean"], ["difference"]),
        helper.make_node("Relu", ["difference"], ["image"]),
    ]
    graph = helper.make_graph(nodes, "stand-in", [ports["content"], ports["style"]], [ports["image"]])
    save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), "solver.onnx")
    content = np.random.default_rng(0).integers(0, 256, (17, 30, 3), np.uint8)
    Image.fromarray(content).save("photo.png")
    Image.new("RGB", (40, 10), (51, 51, 51)).save("painting.png")
    script = ROOT / "examples" / "onnx_python.py"
    monkeypatch.setattr(sys, "argv", [str(script), "solver.onnx", "photo.png", "painting.png", "out.png"])
    runpy.run_path(str(script), run_name="__main__")
    with Image.open("out.png") as found:
        assert np.array_equal(np.asarray(found), np.maximum(content.astype(int) - 51, 0))


def test_every_example_is_short_and_tested() -> None:
    scripts = sorted((ROOT / "examples").glob("*.py"))
    tested = {name.removeprefix("test_example_") for name in globals() if name.startswith("test_example_")}
    assert {script.stem for script in scripts} == tested
    assert max(len(script.read_text().splitlines()) for script in scripts + GALLERY) < 100


def test_the_gallery_is_what_the_documents_promise() -> None:
    names = [script.stem.split("_", 2)[2] for script in GALLERY]
    assert names == [
        "sparse_recovery",
        "deblurring",
        "inpainting",
        "mri",
        "tomography",
        "deep_equilibrium",
        "plug_and_play",
        "projector_swapped",
        "four_steps",
        "what_is_learned",
    ]


def test_gallery_mri_finds_the_phantom() -> None:
    names = gallery("4_mri")
    worse, better = (float((names[key] - names["phantom"]).norm()) for key in ("zeros", "found"))
    assert better < 0.1 * worse


def test_gallery_inpainting_colours_a_photograph() -> None:
    names = gallery("3_inpainting")
    assert bool(names["solution"].status)
    assert names["error"] < 0.35
    assert float(names["mask"].mean()) < 0.03


def test_gallery_deblurring_is_accelerated() -> None:
    names = gallery("2_deblurring")
    plain, accelerated = (solution.trace for solution in names["solved"].values())
    assert accelerated[-1] > names["psnr"](names["blurred"]) + 2
    assert accelerated[20] > plain[40]


def test_gallery_four_steps_measures_the_losses() -> None:
    from apps.style_transfer import VGG19, Options, measure, stylize

    names = gallery("9_four_steps")
    total = {name: values / values[:, :1] for name, values in names["total"].items()}
    content, style = names["photographs"][1], names["paintings"][0]
    peer = measure(stylize(content, style, Options()), style, VGG19())
    np.testing.assert_allclose(names["total"]["learned"][2], peer.total, rtol=1e-3)
    np.testing.assert_allclose(names["content"]["learned"][2][1:], peer.content[1:], rtol=1e-3)
    assert (np.diff(total["learned"].mean(0)) < 0).all()
    assert (names["levels"]["learned"][:, -1] < names["levels"]["learned"][:, 0]).all()
    assert total["Gatys"].mean(0)[-1] < total["learned"].mean(0)[-1] < total["Gatys"].mean(0)[2]


def test_gallery_what_is_learned_adds_up() -> None:
    names = gallery("9_what_is_learned")
    levels, whole = names["answers"][2]
    torch.testing.assert_close(sum(levels), whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))
    distances = np.array(names["distances"])
    assert (np.diff(distances[:, 0]) > 0).all()
    assert (np.diff(distances[:, 1]) < 0).all()


@pytest.mark.parametrize("name", ["unroll", "unroll.sets", "unroll.penalties", "unroll.recipes"])
def test_docstring_examples_hold(name: str) -> None:
    package = importlib.import_module(name)
    modules = [importlib.import_module(f"{name}.{module.name}") for module in pkgutil.iter_modules(package.__path__)]
    assert sum(doctest.testmod(module).failed for module in [package, *modules]) == 0


def test_the_pages_are_all_in_a_table_of_contents() -> None:
    pages = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").glob("**/*.md")}
    listed = set(re.findall(r"^[\w/]+$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE))
    listed |= {f"api/{name}" for name in (ROOT / "docs" / "api" / "index.md").read_text().split()}
    assert pages - {"index"} <= listed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


def test_the_command_lines_of_the_readme_parse() -> None:
    from apps.style_transfer.cli import COMMANDS, build_parser

    lines = re.findall(r"^python -m apps\.style_transfer (.*?)(?: +#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        words = line.split()
        options = build_parser().parse_args(words if words[0] in COMMANDS else ["stylize", *words])
        assert callable(options.run)


def test_the_make_targets_of_the_documents_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = re.findall(r"(?:^|`)make ([\w-]+)", document.read_text(), re.MULTILINE)
        assert set(named) <= targets, document.name


def test_figures_are_filled_in_at_one_place_only() -> None:
    section = re.search(r"^## What was measured$.*?(?=^## )", README, re.DOTALL | re.MULTILINE)
    assert section is not None
    rest = [README.replace(section.group(), ""), *(path.read_text() for path in DOCUMENTS[1:])]
    assert not [text for text in rest if "FIGURE" in text]


def test_the_documents_agree_with_the_code() -> None:
    from apps.style_transfer import PHOTO, Architecture
    from apps.style_transfer.losses import CONTENT_WEIGHT, STYLE_WEIGHT
    from apps.style_transfer.training.data import Pairs
    from apps.style_transfer.weights import EMBEDDED_SOLVER, read_header

    mathematics = " ".join((ROOT / "docs" / "mathematics.md").read_text().split())
    architecture = Architecture()
    assert f"c_l = {', '.join(map(str, architecture.channels))} channels" in mathematics
    assert architecture.kinds == ("whitening", "whitening", "gradient", "gradient")
    assert architecture.colours
    assert (CONTENT_WEIGHT, STYLE_WEIGHT) == (1, 1e-4)
    assert (PHOTO.name, PHOTO.energy, PHOTO.eps, PHOTO.domain) == ("matting-energy", 2.2e-3, 1e-3, "difference")
    assert Pairs((), ()).photo_styles == 0.2
    photographs, paintings = re.findall(r"\d+", read_header(EMBEDDED_SOLVER)["data"])
    assert f"{photographs} photographs and {paintings} pictures of paintings" in README


def test_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    released = re.search(
        rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert released is not None
    assert f"date-released: {released.group(1)}" in (ROOT / "CITATION.cff").read_text()


if importlib.util.find_spec("yaml") is not None:

    def test_the_citation_file_parses() -> None:
        import yaml

        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        assert citation["cff-version"] == "1.2.0"
        assert {"message", "title", "authors"} <= set(citation)
        names = {author["family-names"] for author in citation["references"][0]["authors"]}
        assert names == {"Puy", "Pérez"}
