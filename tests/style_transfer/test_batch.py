"""Batches: what they expand to, what they refuse, and what is left when they are killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import batch_helpers
import pytest
from batch_helpers import broken, content_of, killed_by, slow_copy

from apps.style_transfer.batches.batch import Report, expand, plan, run
from apps.style_transfer.batches.engines import Local, Task
from apps.style_transfer.batches.manifest import MANIFEST, Manifest
from apps.style_transfer.files.raster import ImageError
from apps.style_transfer.files.writing import clear_partial, replacing

STYLES: dict[str, list[Path]] = {"monet": [], "hokusai": []}


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.jpg", "a.JPG", "c.tif", "notes.txt", ".hidden.jpg", "deeper/d.png", "odd[1].jpg"):
        (folder / name).write_text(name)
    return folder


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]


def left_beside(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def assert_whole(tasks: list[Task]) -> None:
    for task in tasks:
        assert task.output.read_bytes() == content_of(task)


def test_folders_patterns_and_files(shots: Path) -> None:
    assert names(expand([shots])) == ["a.JPG", "b.jpg", "c.tif", "odd[1].jpg"]
    assert names(expand([f"{shots}/*.jpg"])) == ["b.jpg", "odd[1].jpg"]
    assert names(expand([f"{shots}/**/*.[jp][pn]g"])) == ["b.jpg", "d.png", "odd[1].jpg"]
    assert names(expand([shots / "c.tif", shots, shots / "c.tif"])) == ["c.tif", "a.JPG", "b.jpg", "odd[1].jpg"]
    assert names(expand([shots / "odd[1].jpg"])) == ["odd[1].jpg"]
    assert names(expand(["absent.jpg"])) == ["absent.jpg"]


def test_what_stands_for_nothing(shots: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no picture matches .*gif: check the pattern"):
        expand([f"{shots}/*.gif"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="is a folder without pictures"):
        expand([tmp_path / "empty"])


def test_all_contents_times_all_styles(shots: Path, tmp_path: Path) -> None:
    tasks = plan([f"{shots}/*.jpg"], STYLES, tmp_path / "out")
    assert [(t.content.name, t.style, t.output.relative_to(tmp_path)) for t in tasks] == [
        ("b.jpg", "monet", Path("out/b_stylized_monet.jpg")),
        ("b.jpg", "hokusai", Path("out/b_stylized_hokusai.jpg")),
        ("odd[1].jpg", "monet", Path("out/odd[1]_stylized_monet.jpg")),
        ("odd[1].jpg", "hokusai", Path("out/odd[1]_stylized_hokusai.jpg")),
    ]
    assert plan([shots / "a.JPG"], {"m": []})[0].output == Path("a_stylized_m.JPG")
    assert plan([shots / "a.JPG"], {"m": []}, suffix=".png")[0].output == Path("a_stylized_m.png")


def test_outputs_that_collide_are_refused(shots: Path, tmp_path: Path) -> None:
    (shots / "deeper" / "b.jpg").write_text("another")
    with pytest.raises(ImageError, match=r"shots/b.jpg and .*deeper/b.jpg would both become .*b_stylized_m.jpg"):
        plan([shots / "b.jpg", shots / "deeper" / "b.jpg"], {"m": []}, tmp_path)
    (shots / "b.png").write_text("the same name, another kind")
    assert len(plan([shots / "b.jpg", shots / "b.png"], {"m": []}, tmp_path)) == 2
    with pytest.raises(ImageError, match="would both become"):
        plan([shots / "b.jpg", shots / "b.png"], {"m": []}, tmp_path, suffix=".png")
    style = shots / "b_stylized_m.jpg"
    style.write_text("a style that lies where the output would")
    (tmp_path / "link").symlink_to(shots)
    with pytest.raises(ImageError, match=r"is the input .*b_stylized_m.jpg: choose another output folder"):
        plan([shots / "b.jpg"], {"m": [style]}, tmp_path / "link")


def test_results_beside_the_originals_are_not_restyled(shots: Path) -> None:
    first = plan([shots], {"monet": []}, shots)
    report = run(first, slow_copy)
    assert (report.done, report.skipped) == (4, 0)
    assert [t.output for t in plan([shots], {"monet": []}, shots)] == [t.output for t in first]
    second = plan([shots], STYLES, shots)
    assert sorted({t.content.name for t in second}) == ["a.JPG", "b.jpg", "c.tif", "odd[1].jpg"]
    (shots / MANIFEST).unlink()
    assert [t.output for t in plan([shots], {"monet": []}, shots)] == [t.output for t in first]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_told_and_the_rest_done(shots: Path, tmp_path: Path, jobs: int) -> None:
    (shots / "bad.jpg").write_text("bad")
    tasks = plan([shots], STYLES, tmp_path / "new" / "out")
    seen = []
    report = run(tasks, slow_copy, engine=Local(jobs), progress=lambda outcome: seen.append(outcome.task))
    assert (report.done, report.skipped, len(report.failed)) == (8, 0, 2)
    assert {outcome.error for outcome in report.failed} == {f"{shots / 'bad.jpg'} is bad: mend it"}
    assert sorted(seen, key=str) == sorted(tasks, key=str)
    assert_whole([task for task in tasks if "bad" not in task.content.name])
    assert sorted(e["status"] for e in lines(tmp_path / "new" / "out")) == ["done"] * 8 + ["failed"] * 2
    assert {e["error"] for e in lines(tmp_path / "new" / "out") if e["status"] == "failed"} == {
        f"{shots / 'bad.jpg'} is bad: mend it"
    }


def test_a_fault_of_the_program_is_told_by_its_kind(shots: Path, tmp_path: Path) -> None:
    report = run(plan([shots / "b.jpg"], {"m": []}, tmp_path), broken)
    assert report.failed[0].error == "KeyError: 'm'"


def test_a_process_that_dies_takes_down_its_task_alone(shots: Path, tmp_path: Path) -> None:
    for name in ("deadly.jpg", "shaky.jpg"):
        (shots / name).write_text(name)
    tasks = plan([shots], {"m": []}, tmp_path / "out")
    report = run(tasks, killed_by, engine=Local(2))
    assert [(o.task.content.name, o.error) for o in report.failed] == [
        ("deadly.jpg", "its process died twice: of too little memory, or of a fault in a decoder")
    ]
    assert report.done == len(tasks) - 1
    assert_whole([task for task in tasks if "deadly" not in task.content.name])


def test_what_exists_is_refused_skipped_or_made_anew(shots: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tasks = plan([shots], {"m": []}, out)
    run(tasks[:2], slow_copy, options="first")
    before = {t.output: t.output.stat().st_mtime_ns for t in tasks[:2]}
    with pytest.raises(ImageError, match=r"2 of 4 outputs exist, .*--skip-existing .*--overwrite"):
        run(tasks, slow_copy)
    assert len(lines(out)) == 2
    report = run(tasks, slow_copy, existing="skip", options="first")
    assert (report.done, report.skipped, report.outdated) == (2, 2, ())
    assert {t.output: t.output.stat().st_mtime_ns for t in tasks[:2]} == before
    report = run(tasks, slow_copy, existing="skip", options="second")
    assert (report.done, report.skipped, len(report.outdated)) == (0, 4, 4)
    tasks[3].content.write_text("changed since")
    assert run(tasks, slow_copy, existing="skip", options="first").outdated == (tasks[3],)
    report = run(tasks, slow_copy, existing="overwrite", options="second")
    assert (report.done, report.skipped) == (4, 0)
    assert {t.output: t.output.stat().st_mtime_ns for t in tasks[:2]} != before
    assert_whole(tasks)


def test_a_record_cut_short_is_gone_on_with(shots: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tasks = plan([shots], {"m": []}, out)
    run(tasks[:2], slow_copy)
    with (out / MANIFEST).open("a") as file:
        file.write('{"output": "half a li')
    report = run(tasks, slow_copy, existing="skip")
    assert (report.done, report.skipped) == (2, 2)
    assert len(dict(Manifest.read(out / MANIFEST))) == 4


def test_one_run_at_a_time_in_a_folder(shots: Path, tmp_path: Path) -> None:
    tasks = plan([shots], {"m": []}, tmp_path)
    with Manifest.open(tmp_path / MANIFEST), pytest.raises(ImageError, match="another run is at work in"):
        run(tasks, slow_copy)


def test_a_folder_that_cannot_be(shots: Path) -> None:
    tasks = plan([shots / "b.jpg"], {"m": []}, shots / "c.tif" / "out")
    with pytest.raises(ImageError, match=r"cannot make the folder .*: choose another with -o"):
        run(tasks, slow_copy)


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="--jobs must be at least 1, got 0"):
        Local(0)
    with pytest.raises(ValueError, match="existing must be one of refuse, skip, overwrite"):
        run([], slow_copy, existing="never")


def test_files_being_written_are_not_cleared_away(tmp_path: Path) -> None:
    killed = tmp_path / ".a.partial-abcd1234.jpg"
    killed.write_text("half")
    (tmp_path / ".partial-notes").write_text("the user's own")
    with replacing(tmp_path / "b.jpg", suffix=".jpg") as beside:
        beside.write_text("on the way")
        assert clear_partial(tmp_path) == [killed]
        assert beside.exists()
    assert sorted(os.listdir(tmp_path)) == [".partial-notes", "b.jpg"]
    assert clear_partial(tmp_path / "absent") == []


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_nothing_is_half_or_lost_or_done_again(tmp_path: Path, seed: int) -> None:
    shots, out = tmp_path / "shots", tmp_path / "out"
    shots.mkdir()
    for i in range(12):
        (shots / f"{i}.jpg").write_text(f"original {i}")
    originals = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in shots.iterdir()}
    jobs = 1 + seed % 2
    root = Path(__file__).parents[2]
    command = [sys.executable, batch_helpers.__file__, str(shots), str(out), str(jobs)]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{Path(__file__).parent}"}
    generator = random.Random(seed)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        # Until the first picture is there the processes start; then some more are made.
        while not list(out.glob("*.jpg")):
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
    tasks = plan([shots], {"a": [], "b": []}, out)
    at_kill = {task.output: task.output.stat().st_mtime_ns for task in tasks if task.output.exists()}
    assert 0 < len(at_kill) < len(tasks)
    report: Report = run(tasks, slow_copy, existing="skip")
    assert report.done + report.skipped == len(tasks)
    assert report.failed == ()
    assert report.skipped >= len(at_kill)
    assert_whole(tasks)
    assert left_beside(out) == []
    assert {path: path.stat().st_mtime_ns for path in at_kill} == at_kill
    made = [entry["output"] for entry in lines(out)]
    assert sorted(made) == sorted(task.output.name for task in tasks)
    after = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in shots.glob("*.jpg")}
    assert after == originals
