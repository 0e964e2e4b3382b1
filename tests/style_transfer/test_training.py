"""Training: the same steps whether interrupted or not, on the pictures that are for training only."""

from __future__ import annotations

import hashlib
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from style_helpers import Program, draw
from torch import Tensor

from apps.style_transfer import load_solver
from apps.style_transfer.checkpoint import read_checkpoint
from apps.style_transfer.data import Pairs, is_held_back, list_images
from apps.style_transfer.distil import distil
from apps.style_transfer.images import to_pil
from apps.style_transfer.train import Training, _Run, train
from apps.style_transfer.update import Architecture, GramGradient, GramUpdate, Level
from apps.style_transfer.vgg import VGG19
from apps.style_transfer.weights import read_header

SMALL = Architecture(channels=(4, 6), steps=2, gated=True)
HELD_BACK = "p14.png"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photographs and paintings, one of each held back."""
    photos, paintings = (tmp_path_factory.mktemp(name) for name in ("photos", "paintings"))
    for i, name in enumerate(("p0.png", "p1.png", HELD_BACK)):
        to_pil(draw(40, 52, phase=i)).save(photos / name)
        to_pil(draw(48, 36, phase=4 + i, roughness=0.2)).save(paintings / name)
    return photos, paintings


def small_training(folders: tuple[Path, Path], out: Path) -> Training:
    photos, paintings = folders
    return Training(
        (photos,),
        (paintings,),
        out,
        steps=3,
        batch=2,
        size=32,
        large_size=32,
        validation_size=32,
        distil_steps=0,
        rate=1e-2,
        architecture=SMALL,
    )


@pytest.fixture
def options(folders: tuple[Path, Path], tmp_path: Path) -> Training:
    return small_training(folders, tmp_path / "run")


@pytest.fixture(scope="module")
def straight(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What the plain run ends with."""
    return outcome(small_training(folders, tmp_path_factory.mktemp("straight")))


def outcome(options: Training) -> dict[str, Tensor]:
    """Train and return all tensors of the checkpoint."""
    train(options)
    return dict(read_checkpoint(options.out / "checkpoint.safetensors").tensors)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def log_of(options: Training) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (options.out / "log.jsonl").read_text().splitlines()]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, steps: int, number: int) -> None:
    original = _Run._train_step

    def step(self: Any) -> list[float]:
        result = original(self)
        if self.step == steps:
            signal.raise_signal(number)
        return result

    monkeypatch.setattr(_Run, "_train_step", step)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_and_resumed_is_bit_equal_to_straight(
    options: Training, straight: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, number)
        interrupted = outcome(options)
    assert signal.getsignal(number) is before
    assert read_checkpoint(options.out / "checkpoint.safetensors").header["step"] == "2"
    assert not same(interrupted, straight)
    resumed = outcome(replace(options, resume=True))
    assert same(resumed, straight)
    for name, value in read_checkpoint(options.out / "solver.safetensors").tensors.items():
        assert torch.equal(value, straight[f"average.{name}"].half()), name


def test_a_finished_run_resumed_stays_as_it_is(options: Training) -> None:
    assert same(outcome(options), outcome(replace(options, resume=True)))


def test_an_interrupted_distillation_begins_again(options: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = Architecture(channels=(4, 4, 4, 4), steps=1)
    options = replace(options, architecture=channels, distil_steps=2, steps=1, batch=1)
    expected = outcome(replace(options, out=options.out / "straight"))
    batch = Pairs.batch

    def interrupting(self: Pairs, step: int, **sizes: int) -> tuple[Tensor, Tensor]:
        if step == -2:
            signal.raise_signal(signal.SIGTERM)
        return batch(self, step, **sizes)

    with monkeypatch.context() as patch:
        patch.setattr(Pairs, "batch", interrupting)
        assert not same(outcome(options), expected)
    assert same(outcome(replace(options, resume=True)), expected)


def test_resume_refuses_another_architecture(options: Training) -> None:
    train(replace(options, steps=1))
    with pytest.raises(ValueError, match=r"another architecture .*: resume with the same options"):
        train(replace(options, resume=True, architecture=replace(SMALL, channels=(4, 7))))


def test_sigterm_on_the_command_line_saves_and_exits_0(
    program: Program, monkeypatch: pytest.MonkeyPatch, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    interrupt_after(monkeypatch, 1, signal.SIGTERM)
    out = tmp_path / "run"
    sizes = {"steps": 50, "batch": 1, "size": 16, "large-size": 16, "validation-size": 32, "distil-steps": 0}
    arguments = [a for name, value in sizes.items() for a in (f"--{name}", value)]
    status, output, err = program("train", "--photos", folders[0], "--paintings", folders[1], "--out", out, *arguments)
    assert (status, output) == (0, ""), err
    assert read_checkpoint(out / "checkpoint.safetensors").header["step"] == "1"
    assert load_solver(out / "solver.safetensors").steps == 4
    assert (out / "sheet.png").exists()


def test_the_log_is_json_lines(options: Training) -> None:
    options = replace(options, steps=20, batch=1, size=16, large_size=16)
    train(options)
    training, validation = log_of(options)
    assert training["step"] == validation["step"] == 20
    assert training["ratio"] > 0
    assert training["size"] == 16
    assert training["skipped"] == 0
    assert len(validation["validation"]) == 1


def test_weights_say_what_they_are_and_load(options: Training) -> None:
    path = train(options)
    header = read_header(path)
    assert header["licence"] == "MIT"
    assert header["steps_trained"] == "3"
    assert header["data"] == "2 photographs, 2 paintings"
    assert json.loads(header["architecture"])["channels"] == [4, 6]
    assert "1e-4 L_s" in header["objective"]
    solver = load_solver(path)
    average = read_checkpoint(options.out / "checkpoint.safetensors").tensors
    for name, parameter in solver.update.named_parameters():
        assert not parameter.requires_grad
        assert parameter.dtype == torch.float32
        torch.testing.assert_close(parameter, average[f"average.{name}"], rtol=1e-3, atol=1e-4)
    x, style = draw(20, 20), draw(20, 20, phase=1)
    assert bool(solver(x, solver.update.encode(style)).x.isfinite().all())  # type: ignore[operator]


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 1},
        {"size": 24},
        {"large_size": 24, "large_from": 0.5},
        {"rate": 5e-3},
        {"decay": 1.0},
        {"ema": 0.0},
        {"seed": 1},
        {"bfloat16": False},
        {"steps": 2},
        {"architecture": replace(SMALL, gated=False)},
    ],
    ids=str,
)
def test_each_option_changes_the_training(
    options: Training, straight: dict[str, Tensor], change: dict[str, Any]
) -> None:
    assert not same(outcome(replace(options, **change)), straight)


def test_a_training_starts_from_given_weights(options: Training, weights: Path) -> None:
    architecture = read_checkpoint(weights).architecture
    options = replace(options, start_from=weights, architecture=architecture, steps=1, rate=1e-12, distil_steps=5)
    tensors = outcome(options)
    for name, value in read_checkpoint(weights).tensors.items():
        torch.testing.assert_close(tensors[f"update.{name}"], value)


def test_checkpoints_are_saved_on_the_way(options: Training) -> None:
    train(replace(options, save_minutes=0))
    assert [line["step"] for line in log_of(options) if "validation" in line] == [1, 2, 3, 3]


def test_a_budget_in_minutes_ends(options: Training) -> None:
    train(replace(options, steps=None, minutes=1e-6))
    assert read_checkpoint(options.out / "checkpoint.safetensors").header["step"] == "1"


def test_a_non_finite_step_is_skipped_and_counted(options: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outcome(replace(options, steps=2, decay=0.0, out=options.out / "calm"))
    batch = Pairs.batch

    def poisoned(self: Pairs, step: int, **sizes: int) -> tuple[Tensor, Tensor]:
        contents, styles = batch(self, step, **sizes)
        return (contents * torch.nan if step == 2 else contents), styles

    monkeypatch.setattr(Pairs, "batch", poisoned)
    found = outcome(replace(options, decay=0.0))
    assert same(found, expected), "the poisoned third step leaves parameters, average and moments as they were"
    assert read_checkpoint(options.out / "checkpoint.safetensors").header["skipped"] == "1"


def test_training_without_held_back_pictures_runs(options: Training, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    to_pil(draw(30, 20)).save(folder / "p0.png")
    train(replace(options, photos=(folder,), paintings=(folder,), steps=1))
    assert log_of(options) == []
    assert not (options.out / "sheet.png").exists()


def test_training_lowers_the_loss(options: Training) -> None:
    options = replace(options, steps=20, batch=2, rate=5e-2, size=16, large_size=16, seed=3, ema=0.0)
    train(options)
    (validated,) = [line["validation"] for line in log_of(options) if "validation" in line]
    assert validated[0] < 1


def test_held_back_pictures_are_never_trained_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("p0.png", "p14.png", "p21.png", "p22.png"):
        digit = hashlib.sha1(name.encode()).hexdigest()[0]
        assert is_held_back(tmp_path / name) == (digit in ("0", "1"))
    trained, held = (list_images(folders, held_back=h) for h in (False, True))
    assert [p.name for p in held] == [HELD_BACK] * 2
    assert HELD_BACK not in {p.name for p in trained}
    assert len(trained) == 4
    assert trained == sorted(trained)


def test_what_is_no_picture_is_left_aside(tmp_path: Path) -> None:
    (tmp_path / "SOURCES.tsv").write_text("no picture")
    (tmp_path / "folder").mkdir()
    to_pil(draw(20, 20)).save(tmp_path / "p0.PNG")
    assert [p.name for p in list_images([tmp_path])] == ["p0.PNG"]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    photos, paintings = ([(255 * draw(50, 70, phase=p)[0]).byte() for p in phases] for phases in ((0, 1), (2, 3)))
    return Pairs(photos, paintings, seed=5)


def test_the_crops_depend_on_seed_and_step_alone(pairs: Pairs) -> None:
    contents, styles = pairs.batch(7, batch=3, size=24)
    assert contents.shape == styles.shape == (3, 3, 24, 24)
    for image in (contents, styles):
        assert float(image.min()) >= 0
        assert float(image.max()) <= 1
    torch.manual_seed(123)
    again = pairs.batch(7, batch=3, size=24)
    assert torch.equal(contents, again[0])
    assert torch.equal(styles, again[1])
    for other in (pairs.batch(8, batch=3, size=24), replace(pairs, seed=6).batch(7, batch=3, size=24)):
        assert not torch.equal(contents, other[0])
        assert not torch.equal(styles, other[1])
    assert not torch.equal(styles, replace(pairs, photo_styles=1.0).batch(7, batch=3, size=24)[1])


def test_small_pictures_are_enlarged_to_crops() -> None:
    tiny = [(255 * draw(10, 14)[0]).byte()]
    contents, styles = Pairs(tiny, tiny).batch(0, batch=2, size=24)
    assert contents.shape == styles.shape == (2, 3, 24, 24)


@pytest.mark.parametrize("gated", [True, False])
def test_distillation_gives_all_steps_the_forward_maps_of_the_first(vgg: VGG19, pairs: Pairs, gated: bool) -> None:
    torch.manual_seed(0)
    update = GramUpdate(Architecture(channels=(4, 4, 4, 4), steps=2, gated=gated))
    before = {k: v.clone() for k, v in update.state_dict().items()}
    distil(update, vgg, lambda step: pairs.batch(step, batch=2, size=32), steps=3, pca_batches=2)
    assert len({p.data_ptr() for p in update.parameters()}) == len(list(update.parameters()))
    one, other = (g.state_dict() for g in update.gradients)
    for name, value in one.items():
        if ".forward_" in name:
            assert torch.equal(value, other[name]), name
            assert not torch.equal(value, before[f"gradients.0.{name}"]), name
        if ".backward_" in name and name.endswith("weight"):
            assert torch.equal(value, other[name]) == gated, name


def test_distillation_begins_with_mirrored_maps_and_a_visible_step(vgg: VGG19, pairs: Pairs) -> None:
    torch.manual_seed(0)
    update = GramUpdate(Architecture(channels=(4, 4, 4, 4), steps=1, gated=True))
    distil(update, vgg, lambda step: pairs.batch(step, batch=2, size=32), steps=3, pca_batches=2)
    gradient = update.gradients[0]
    assert isinstance(gradient, GramGradient)
    for l, level in enumerate(gradient.levels):
        assert isinstance(level, Level)
        mirrored = level.forward_first.weight.transpose(0, 1).flip(2, 3) / (4 if l else 1)
        torch.testing.assert_close(level.backward_first.weight, mirrored)
        # The scale of a level sits in its second map.
        ratio = (level.backward_second.weight / level.forward_second.weight.transpose(0, 1).flip(2, 3)).detach()
        torch.testing.assert_close(ratio, ratio.median().expand_as(ratio), rtol=1e-3, atol=0)
    contents, styles = pairs.batch(3, batch=2, size=32)
    with torch.no_grad():
        step = update(contents, update.encode(styles), 0)
    assert 0.003 < float(step.square().mean().sqrt()) < 0.3
