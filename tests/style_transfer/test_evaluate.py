"""Evaluation: the figures of a row from their definitions, pairs, resuming, and the reports."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from style_helpers import Program, draw

from apps.style_transfer.cli import build_parser
from apps.style_transfer.commands.common import constraint, given
from apps.style_transfer.evaluation.evaluate import (
    FIGURES,
    Evaluation,
    Row,
    _Run,
    choose_pairs,
    evaluate,
    method_name,
    methods_of,
    summary,
)
from apps.style_transfer.evaluation.pair import Pair
from apps.style_transfer.evaluation.report import write_html, write_json
from apps.style_transfer.files.images import read_image, resize, to_pil
from apps.style_transfer.losses import encode_targets, reference_objective
from apps.style_transfer.projectors import PHOTO, ProjectorOptions
from apps.style_transfer.transfer import Options, stylize
from apps.style_transfer.vgg import VGG19

FEW = ProjectorOptions(k=6)


def pair_of(row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    content, style = (resize(read_image(Path(row[name])).rgb, 32) for name in ("content", "style"))
    return content, style


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("pictures")
    for kind, phase in (("contents", 0.0), ("styles", 2.0)):
        (root / kind).mkdir()
        for i in range(3):
            to_pil(draw(32, 40 + 4 * i, phase=phase + i)).save(root / kind / f"{kind[0]}{i}.png")
    return root / "contents", root / "styles"


@pytest.fixture
def evaluation(folders: tuple[Path, Path], tmp_path: Path, weights: Path) -> Evaluation:
    return Evaluation(
        *folders, tmp_path / "work", options=Options(weights=weights), size=32, count=1, gatys=2, cold=False
    )


@pytest.mark.parametrize("solver", ["learned", "reinhard"])
def test_the_figures_of_a_row_are_those_of_the_saved_picture(evaluation: Evaluation, vgg: VGG19, solver: str) -> None:
    cold = solver == "learned"
    evaluation = replace(evaluation, methods=methods_of([solver], ["matting"], FEW), cold=cold)
    (row,) = evaluate(evaluation)
    picture = read_image(evaluation.work / row["picture"]).rgb
    assert list(picture.shape[:1:-1]) == row["size"]
    assert max(row["size"]) == 32
    content, style = pair_of(row)
    result = stylize(content, style, replace(evaluation.options, solver=solver, projector=replace(FEW, name="matting")))
    torch.testing.assert_close(picture, result.image, atol=0.51 / 255, rtol=0)
    objective, targets = reference_objective(vgg), encode_targets(vgg, content, style)
    with torch.no_grad():
        total, before = float(objective(picture, targets)), float(objective(content, targets))
    assert row["total_loss"] == pytest.approx(total, rel=1e-4)
    assert row["total_ratio"] == pytest.approx(total / before, rel=1e-4)
    assert row["total_loss"] == pytest.approx(row["content_loss"] + 1e-4 * row["style_loss"])
    assert row["seconds"] > 0
    assert (row["process_seconds"] > row["seconds"]) if cold else row["process_seconds"] is None


def test_the_exchange_rate_of_gatys_is_its_own_number_of_iterations(evaluation: Evaluation) -> None:
    # Measured on the 8-bit picture, so not to the digit.
    options = replace(evaluation.options, steps=6)
    methods = methods_of(["gatys"], ["none"], FEW)
    (row,) = evaluate(replace(evaluation, options=options, methods=methods, gatys=12))
    assert row["gatys_iterations"] == pytest.approx(6, abs=1)
    assert row["gatys_seconds"] > 0


def test_the_photograph_itself_is_worth_no_iteration_and_the_unreachable_one_more_than_were_run(
    evaluation: Evaluation,
) -> None:
    still = replace(evaluation, options=replace(evaluation.options, alpha=0.0))
    (row,) = evaluate(still)
    assert row["gatys_iterations"] == pytest.approx(0, abs=0.2)
    assert row["psnr"] > 50
    assert row["style_cut"] == pytest.approx(0, abs=1e-2)
    far = replace(evaluation, options=replace(evaluation.options, steps=9), gatys=1)
    (row,) = evaluate(replace(far, methods=methods_of(["gatys"], ["none"], FEW)))
    assert row["gatys_iterations"] == 2
    assert evaluate(replace(evaluation, gatys=0))[0]["gatys_iterations"] is None


def test_what_is_there_is_not_done_again(evaluation: Evaluation) -> None:
    two = replace(evaluation, count=2, gatys=0)
    rows = evaluate(two)
    path = two.work / "rows.jsonl"
    # An interruption in the middle of a line.
    first = path.read_text().splitlines()[0]
    path.write_text(first + "\n" + '{"key": "c')
    again = evaluate(two)
    assert again[0] == rows[0]
    assert again[1]["total_loss"] == rows[1]["total_loss"]
    assert again[1]["seconds"] != rows[1]["seconds"]
    assert evaluate(two) == again


def test_another_setting_is_done_anew(evaluation: Evaluation) -> None:
    rows = evaluate(replace(evaluation, gatys=0))
    other = evaluate(replace(evaluation, gatys=0, size=24))
    assert rows[0]["key"] != other[0]["key"]
    assert max(other[0]["size"]) == 24


def test_pairs_are_drawn_by_the_seed_and_use_every_picture_alike(evaluation: Evaluation) -> None:
    pairs = choose_pairs(replace(evaluation, count=6))
    assert pairs == choose_pairs(replace(evaluation, count=6))
    assert pairs != choose_pairs(replace(evaluation, count=6, seed=1))
    for column in zip(*pairs, strict=True):
        assert set(Counter(column).values()) == {2}


def test_pairs_from_a_file(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("# content, style\nc1.png\ts0.png\n\nc0.png, s2.png\n")
    pairs = choose_pairs(replace(evaluation, pairs=path))
    assert [(a.name, b.name) for a, b in pairs] == [("c1.png", "s0.png"), ("c0.png", "s2.png")]


@pytest.mark.parametrize(
    ("text", "message"), [("c1.png", "line 1: a content's and a style's"), ("c1.png\tno.png", "line 1: no picture at")]
)
def test_a_bad_file_of_pairs(evaluation: Evaluation, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        choose_pairs(replace(evaluation, pairs=path))


def test_held_back_pictures_alone_on_demand(evaluation: Evaluation, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    names = [f"{i}.png" for i in range(40)]
    kept = {name for name in names if hashlib.sha1(name.encode()).hexdigest()[0] in "01"}
    for name in names:
        to_pil(draw(16, 16)).save(folder / name)
    drawn = replace(evaluation, contents=folder, styles=folder, count=len(kept), held_back=True)
    assert {path.name for pair in choose_pairs(drawn) for path in pair} == kept
    with pytest.raises(ValueError, match="no held-back pictures"):
        choose_pairs(replace(drawn, styles=evaluation.styles))


def test_solvers_that_bring_their_own_constraint_come_once() -> None:
    found = methods_of(["learned", "luan", "projected"], ["none", "box"], FEW)
    assert [(solver, p.name) for solver, p in found] == [
        ("learned", "none"),
        ("learned", "box"),
        ("luan", "none"),
        ("projected", "matting"),
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        {"options": Options("gatys", steps=3, content_weight=2.0, style_weight=3e-4), "size": None},
        {"options": Options("luan", photo_weight=1e7, refine=0), "size": 40},
        {"options": Options(alpha=0.5, refine=2), "size": 32},
    ],
)
@pytest.mark.parametrize("name", ["none", "photo", "guided", "matting-energy"])
def test_the_whole_program_is_timed_with_every_setting(
    evaluation: Evaluation, weights: Path, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], name: str
) -> None:
    wanted["options"] = replace(wanted["options"], weights=weights)
    given_ = ProjectorOptions(k=0.5, energy=1e-3, gamma=7.0, order=9, radius=3, eps=1e-5, domain="image")
    (method, *_) = methods_of([wanted["options"].solver], [name], given_)
    called: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: called.append(command))
    run = _Run(replace(evaluation, **wanted, methods=(method,)))
    run._process(Path("a.png"), Path("b.png"), method)
    ((_, _, package, *arguments),) = called
    assert package == "apps.style_transfer"
    read = build_parser().parse_args(arguments)
    assert constraint(read) == method[1]
    assert Options(**given(read, Options) | {"projector": ProjectorOptions()}) == wanted["options"]
    assert (read.content, read.style, read.size) == (["a.png"], ["b.png"], wanted["size"])


def test_a_photograph_that_is_its_own_style_has_nothing_to_cut(
    evaluation: Evaluation, vgg: VGG19, tmp_path: Path
) -> None:
    (name,) = (content.name for content, _ in choose_pairs(evaluation))
    (tmp_path / "pairs.txt").write_text(f"{name}\t{name}\n")
    same = replace(evaluation, styles=evaluation.contents, pairs=tmp_path / "pairs.txt", gatys=0)
    (row,) = evaluate(same)
    assert (row["total_ratio"], row["style_cut"]) == (None, None)
    assert row["total_loss"] > 0
    figures = Pair(*pair_of(row), vgg).figures(pair_of(row)[0])
    assert (figures["psnr"], figures["total_loss"]) == (None, 0.0)
    rows = [row, row | figures]
    write_json(tmp_path / "rows.json", rows)
    json.loads((tmp_path / "rows.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    write_html(tmp_path / "rows.html", rows, same.work)


def test_photo_is_the_preset_whatever_else_is_given() -> None:
    methods = methods_of(["learned"], ["photo", "matting-energy"], replace(FEW, energy=1e-3))
    assert methods == (("learned", PHOTO), ("learned", replace(FEW, name="matting-energy", energy=1e-3)))
    assert [method_name(method) for method in methods] == ["learned + photo", "learned + matting-energy"]


def test_the_summary_is_median_and_quartiles() -> None:
    empty = dict.fromkeys(FIGURES)
    rows = [{"method": "learned", **empty, "seconds": float(s)} for s in (5, 1, 2, 4, 3)]
    assert summary(rows) == {"learned": {"seconds": {"median": 3.0, "low": 2.0, "high": 4.0}}}
    assert summary(rows[:1])["learned"]["seconds"] == {"median": 5.0, "low": 5.0, "high": 5.0}


def test_the_command_line_writes_every_report(
    program: Program, folders: tuple[Path, Path], tmp_path: Path, weights: Path
) -> None:
    reports = [tmp_path / f"report.{kind}" for kind in ("json", "csv", "html")]
    words = ["evaluate", "--contents", folders[0], "--styles", folders[1], "--count", "2", "--size", "32"]
    words += [
        "--solvers",
        "learned,reinhard",
        "--projectors",
        "none,box",
        "--warm-only",
        "--gatys",
        "0",
        "--weights",
        weights,
    ]
    words += ["--work", tmp_path / "work"]
    for report in reports:
        words += [f"--{report.suffix[1:]}", report]
    status, _, errors = program(*map(str, words))
    assert status == 0, errors
    found = json.loads(reports[0].read_text())
    assert list(found["summary"]) == ["learned", "learned + box", "reinhard", "reinhard + box"]
    assert len(found["rows"]) == 8
    with reports[1].open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["total_loss"]) for line in lines] == [row["total_loss"] for row in found["rows"]]
    page = reports[2].read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * (2 + 4)
    assert "http" not in page  # one file, and nothing from elsewhere
