"""Styles: kept in files, mixed, shipped; refused in one line where they are none."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from style_helpers import Program, save_weights
from torch import Tensor

from apps.style_transfer import Options, Style, Stylizer, blend, gallery, stylize
from apps.style_transfer.files.images import read_image, resize
from apps.style_transfer.learned.gram_step import Moments
from apps.style_transfer.losses import encode_style
from apps.style_transfer.solvers import Descent
from apps.style_transfer.style import identify
from apps.style_transfer.vgg import VGG19
from apps.style_transfer.weights import EMBEDDED_SOLVER, read_header


@pytest.fixture(scope="module")
def stylizer(weights: Path) -> Stylizer:
    return Stylizer(weights, "cpu")


@pytest.fixture(scope="module")
def style(stylizer: Stylizer, painting: Tensor) -> Style:
    return stylizer.style(painting, size=48)


@pytest.fixture(scope="module")
def other(stylizer: Stylizer, painting: Tensor) -> Style:
    return replace(stylizer.style(painting.flip(1), size=48), name="other")


def parts(style: Style) -> list[Moments]:
    return [level for levels in style.encoded for level in levels]


def test_a_saved_style_gives_the_very_picture(
    stylizer: Stylizer, style: Style, photo: Tensor, painting: Tensor, weights: Path, tmp_path: Path
) -> None:
    style.save(tmp_path / "my.style.safetensors")
    loaded = Style.load(tmp_path / "my.style.safetensors")
    assert (loaded.name, loaded.weights) == (style.name, style.weights)
    expected = stylizer(photo, painting).image
    for found in (style, loaded):
        assert torch.equal(stylizer(photo, found).image, expected)
        assert torch.equal(stylize(photo, found, Options(weights=weights)).image, expected)


def test_a_style_of_the_shipped_weights_is_a_matter_of_kilobytes(tmp_path: Path, painting: Tensor) -> None:
    stylizer = Stylizer(device="cpu")
    stylizer.style(painting).save(tmp_path / "my.style.safetensors")
    assert (tmp_path / "my.style.safetensors").stat().st_size < 400_000


def test_the_size_of_a_style_changes_it(stylizer: Stylizer, photo: Tensor, painting: Tensor) -> None:
    small, large = (stylizer(photo, stylizer.style(painting, size=size)).image for size in (32, 64))
    assert not torch.equal(small, large)
    own = stylizer.style(painting)  # smaller than 512, it is taken as it is
    assert torch.equal(parts(own)[0].mean, parts(stylizer.style(painting, size=40))[0].mean)


@pytest.mark.parametrize("shares", [(0.7, 0.3), (7, 3), None])
def test_a_blend_mixes_means_and_covariances(style: Style, other: Style, shares: tuple[float, float] | None) -> None:
    w = 0.7 if shares else 0.5
    for found, a, b in zip(*map(parts, (blend([style, other], shares), style, other)), strict=True):
        torch.testing.assert_close(found.mean, w * a.mean + (1 - w) * b.mean)
        torch.testing.assert_close(found.covariance, w * a.covariance + (1 - w) * b.covariance)
        assert float(torch.linalg.eigvalsh(found.covariance.double()).min()) > -1e-6


def test_a_blend_lies_between_its_styles(stylizer: Stylizer, style: Style, other: Style, photo: Tensor) -> None:
    ends = [stylizer(photo, s).image for s in (style, other)]
    apart = float((ends[0] - ends[1]).norm())
    near = [float((stylizer(photo, blend([style, other], (w, 1 - w))).image - ends[1]).norm()) for w in (0.8, 0.5, 0.2)]
    assert apart > near[0] > near[1] > near[2] > 0


def test_one_to_nothing_is_the_one_bit_for_bit(
    stylizer: Stylizer, style: Style, other: Style, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    expected = stylizer(photo, painting).image
    assert torch.equal(stylizer(photo, blend([style, other], [1, 0])).image, expected)
    assert torch.equal(stylizer(photo, blend([other, style], [0, 3])).image, expected)
    options = Options(weights=weights, style_weights=(1, 0))
    assert torch.equal(stylize(photo, [painting, painting.flip(1)], options).image, expected)
    assert torch.equal(stylize(photo, [painting, other], options).image, expected)


def test_several_styles_of_a_call_are_the_blend(
    stylizer: Stylizer, style: Style, other: Style, photo: Tensor, painting: Tensor, weights: Path
) -> None:
    options = Options(weights=weights, style_weights=(0.7, 0.3))
    expected = stylizer(photo, blend([style, other], [0.7, 0.3])).image
    assert torch.equal(stylize(photo, [painting, painting.flip(1)], options).image, expected)
    assert torch.equal(stylize(photo, [style, painting.flip(1)], options).image, expected)


def test_the_exact_solvers_mix_grams(vgg: VGG19, photo: Tensor, painting: Tensor) -> None:
    exact, pictures = Descent(vgg), [resize(painting, 48), resize(painting.flip(1), 48)]
    grams = tuple(0.7 * a + 0.3 * b for a, b in zip(*(encode_style(vgg, p) for p in pictures), strict=True))
    expected = exact(photo, grams, steps=2).x.clamp(0, 1)
    found = stylize(photo, pictures, Options("gd", steps=2, style_weights=(0.7, 0.3))).image
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, stylize(photo, pictures[0], Options("gd", steps=2)).image)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ([1], "2 styles want 2 weights, got 1"),
        ([1, 2, 3], "2 styles want 2 weights, got 3"),
        ([0, 0], "at least 0 and not all 0"),
        ([-1, 2], "at least 0 and not all 0"),
        ([float("nan"), 1], "at least 0 and not all 0"),
        ([float("inf"), 1], "at least 0 and not all 0"),
    ],
)
def test_shares_that_mean_nothing(style: Style, other: Style, shares: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        blend([style, other], shares)


def test_styles_belong_to_their_weights(style: Style, photo: Tensor, tmp_path: Path, stylizer: Stylizer) -> None:
    others = save_weights(tmp_path / "others.safetensors", seed=1)
    with pytest.raises(ValueError, match="made by other weights: make it anew"):
        stylize(photo, style, Options(weights=others))
    foreign = Stylizer(others, "cpu")
    for call in (lambda: foreign(photo, style), lambda: foreign.style([style]), lambda: Stylizer()(photo, style)):
        with pytest.raises(ValueError, match="made by other weights: make it anew"):
            call()
    with pytest.raises(ValueError, match="made by different weights"):
        blend([style, foreign.style(photo)])
    with pytest.raises(ValueError, match="at least one style"):
        blend([])


def test_weights_are_told_by_their_tensors(weights: Path, tmp_path: Path) -> None:
    tensors, header = load_file(weights), read_header(weights)
    save_file(tensors, tmp_path / "noted.safetensors", {**header, "note": "trained on a Tuesday"})
    assert identify(tmp_path / "noted.safetensors") == identify(weights)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1e-3}, tmp_path / "moved.safetensors", header)
    assert identify(tmp_path / "moved.safetensors").fingerprint != identify(weights).fingerprint


class Harm:
    """A pickle that does something when it is read."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("harm",)


def break_style(kind: str, path: Path, whole: Path) -> None:
    tensors, header = load_file(whole), read_header(whole)
    name = next(iter(tensors))
    match kind:
        case "truncated":
            path.write_bytes(whole.read_bytes()[:-9])
        case "noise":
            path.write_bytes(bytes(range(256)) * 8)
        case "empty":
            path.touch()
        case "pickle":
            path.write_bytes(pickle.dumps(Harm()))
        case "torch file":
            torch.save(Harm(), path)
        case "weights":
            path.write_bytes(EMBEDDED_SOLVER.read_bytes())
        case "NaN":
            save_file({**tensors, name: tensors[name] * float("nan")}, path, header)
        case "shapes":
            save_file({**tensors, "0.0.mean": torch.zeros(1, 7, 1)}, path, header)
        case "other channels":
            extra = {"0.0.mean": torch.zeros(1, 7, 1), "0.0.covariance": torch.eye(7)[None]}
            save_file({**tensors, **extra}, path, header)
        case "other depth":
            kept = {key: tensor for key, tensor in tensors.items() if not key.startswith("3.")}
            save_file(kept, path, {**header, "levels": json.dumps(json.loads(header["levels"])[:3])})
        case "half precision":
            save_file({key: tensor.half() for key, tensor in tensors.items()}, path, header)
        case "tensor missing":
            save_file({key: tensor for key, tensor in tensors.items() if key != name}, path, header)
        case "tensor added":
            save_file({**tensors, "more": torch.zeros(1)}, path, header)
        case "huge levels":
            save_file(tensors, path, {**header, "levels": "[1e300]"})
        case "deep levels":
            save_file(tensors, path, {**header, "levels": "[" * 100_000})
        case "no levels":
            save_file(tensors, path, {"format": header["format"]})


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no style at .*: check the path"),
        ("truncated", "is damaged or no style file: make it anew with style save"),
        ("noise", "is damaged or no style file"),
        ("empty", "is damaged or no style file"),
        ("pickle", "is damaged or no style file"),
        ("torch file", "is damaged or no style file"),
        ("weights", "does not hold a style"),
        ("NaN", "holds no moments of a style"),
        ("shapes", "holds no moments of a style"),
        ("other channels", "made by other weights"),
        ("other depth", "made by other weights"),
        ("half precision", "holds no moments of a style"),
        ("tensor missing", "is not a whole style"),
        ("tensor added", "holds no moments of a style"),
        ("huge levels", "is not a whole style"),
        ("deep levels", "is not a whole style"),
        ("no levels", "is not a whole style"),
    ],
)
def test_broken_style_files_are_refused_in_one_line(
    program: Program,
    content_file: Path,
    style: Style,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    style.save(tmp_path / "whole.style.safetensors")
    broken = tmp_path / "broken.style.safetensors"
    break_style(kind, broken, tmp_path / "whole.style.safetensors")
    status, out, err = program("-c", content_file, "-s", broken, "-o", "out.png", "--weights", weights)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1, err
    with pytest.raises(ValueError, match=words) as raised:
        Style.load(broken).belongs_to(identify(weights))
    assert str(raised.value) in err
    assert not Path("out.png").exists()
    assert not Path("harm").exists()


def test_a_file_with_wrong_bytes_is_a_style_or_refused(style: Style, tmp_path: Path) -> None:
    path = tmp_path / "my.style.safetensors"
    style.save(path)
    whole, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(200):
        wrong = bytearray(whole)
        for _ in range(draw.choice((1, 3, 30))):
            wrong[draw.randrange(draw.choice((8, 400, len(wrong))))] = draw.randrange(256)
        path.write_bytes(wrong)
        try:
            Style.load(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 (which kind it is follows from the bytes)
    assert refused > 50


def test_a_style_is_written_whole_or_not_at_all(style: Style, tmp_path: Path) -> None:
    path = tmp_path / "my.style.safetensors"
    path.write_text("the old one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"cannot write .*: free some space") as raised:
            style.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(raised.value)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "the old one"
    with pytest.raises(ValueError, match="is no name for a style: end it in"):
        style.save(tmp_path / "my.png")


def test_the_gallery_is_in_order() -> None:
    entries = gallery()
    assert len(entries) >= 12
    assert list(entries) == sorted(entries)
    folder = next(iter(entries.values())).path.parent
    credits = (folder / "CREDITS.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in credits.splitlines() if "| " in line}
    for name, entry in entries.items():
        assert entry.name == name
        assert f"{rows[name][1]}, {rows[name][3]}" == entry.title
        assert rows[name][2] == entry.credit
        assert rows[name][4].startswith("public domain")
        assert "http" in rows[name][5]
        with Image.open(entry.path) as picture:
            assert picture.format == "JPEG"
            assert 300 < max(picture.size) <= 640
    pictures = {path.resolve() for path in folder.glob("*.jpg")}
    assert pictures <= {entry.path.resolve() for entry in entries.values()}
    assert sum(path.stat().st_size for path in pictures) < 800_000


def test_style_list_shows_the_gallery(program: Program) -> None:
    status, out, err = program("style", "list")
    assert (status, err) == (0, "")
    for line, entry in zip(out.splitlines(), gallery().values(), strict=True):
        assert line.split()[0] == entry.name
        assert entry.title in line
        assert entry.credit in line


def test_style_save_keeps_what_the_command_line_would_make(
    program: Program, content_file: Path, style_file: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"

    def stylised(*arguments: object) -> Tensor:
        status, _, err = program("-c", content_file, "-o", out, "--overwrite", "--weights", weights, *arguments)
        assert status == 0, err
        return read_image(out).rgb

    def saved(*arguments: object) -> Path:
        path = tmp_path / "my.style.safetensors"
        status, _, err = program("style", "save", *arguments, "-o", path, "--weights", weights)
        assert status == 0, err
        assert "my.style.safetensors" in err
        return path

    both = [style_file, "hokusai-great-wave"]
    shares = ["--style-weights", "0.7", "0.3"]
    one, mixed = stylised("-s", style_file), stylised("-s", both[0], "-s", both[1], *shares)
    assert torch.equal(stylised("-s", saved(style_file, "--size", "48")), one)
    assert not torch.equal(stylised("-s", saved(style_file, "--size", "24")), one)
    assert torch.equal(stylised("-s", saved(*both, *shares, "--size", "48")), mixed)
    assert not torch.equal(one, mixed)
    kept = saved(style_file, "--size", "48")
    assert torch.equal(stylised("-s", kept, "-s", both[1], *shares), mixed)


def test_what_style_save_refuses(program: Program, style_file: Path, weights: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((style_file, "-o", tmp_path / "my.png"), "end it in .style.safetensors"),
        ((style_file, "hokusai", "-o", tmp_path / "my.style.safetensors"), "no style hokusai: give a picture"),
        (
            (style_file, "-o", tmp_path / "my.style.safetensors", "--size", "8"),
            "the style is too narrow: at the size of 8 it has 6 x 8",
        ),
        ((style_file, "-o", tmp_path / "my.style.safetensors", "--style-weights", "1", "2"), "1 styles want 1 weights"),
    ):
        status, out, err = program("style", "save", *arguments, "--weights", weights)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert words in err
    assert list(tmp_path.glob("my*")) == []
