"""Training: the same steps whether interrupted or not, on the pictures that are for training only."""

from __future__ import annotations

import functools
import hashlib
import json
import signal
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from style_helpers import Program, draw
from torch import Tensor

from apps.style_transfer import load_solver
from apps.style_transfer.devices import has_bfloat16
from apps.style_transfer.files.images import to_pil
from apps.style_transfer.learned.checkpoint import read_checkpoint
from apps.style_transfer.learned.update import Architecture, GramGradient, GramUpdate
from apps.style_transfer.losses import encode_targets, reference_objective
from apps.style_transfer.training.data import Pairs, is_held_back, list_images
from apps.style_transfer.training.distil import distil
from apps.style_transfer.training.pool import Batch, Pool
from apps.style_transfer.training.train import Training, _before, _Run, train
from apps.style_transfer.vgg import VGG19
from apps.style_transfer.weights import read_header
from unroll._training import _checkpoint as checkpoints

train_module = import_module("apps.style_transfer.training.train")  # the package exports the function of this name
SMALL = Architecture(channels=(4, 6), convolutions=(2, 2), kinds=("whitening", "gradient"))
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
        pool=2,
        distil_steps=0,
        single_steps=1,
        rate=1e-2,
        seed=5,  # of the three batches, only the last stops early
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
    state = checkpoint_of(options)
    tensors = {k.replace("solver.", ""): v for k, v in state["parts"].items()}
    tensors |= {k.replace("module.solver.update", "average"): v for k, v in state["average"].items() if "." in k}
    moments = state["optimizer"]["state"]
    return tensors | {f"adam.{i}.{k}": v for i, moment in moments.items() for k, v in moment.items()}


def checkpoint_of(options: Training) -> dict[str, Any]:
    return checkpoints.load(options.out / "checkpoint.pt")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def log_of(options: Training) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (options.out / "log.jsonl").read_text().splitlines()]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, steps: int, number: int) -> None:
    original, calls = _Run.loss, []

    def loss(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == steps:
            signal.raise_signal(number)
        return original(self, *arguments)

    monkeypatch.setattr(_Run, "loss", loss)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_and_resumed_is_bit_equal_to_straight(
    options: Training, straight: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, number)
        interrupted = outcome(options)
    assert signal.getsignal(number) is before
    assert checkpoint_of(options)["step"] == 2
    assert not same(interrupted, straight)
    resumed = outcome(replace(options, resume=True))
    assert same(resumed, straight)
    for name, value in read_checkpoint(options.out / "solver.safetensors").tensors.items():
        assert torch.equal(value, straight[f"average.{name}"].half()), name


def test_a_finished_run_resumed_stays_as_it_is(options: Training) -> None:
    assert same(outcome(options), outcome(replace(options, resume=True)))


def test_interrupted_while_encoding_crops_saves_and_resumes(
    options: Training, straight: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Pairs.batch

    def interrupting(self: Pairs, step: int, **sizes: int) -> tuple[Tensor, Tensor]:
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        return batch(self, step, **sizes)

    with monkeypatch.context() as patch:
        patch.setattr(Pairs, "batch", interrupting)
        train(options)
    assert checkpoint_of(options)["step"] == 2, "the second pool was begun"
    assert same(outcome(replace(options, resume=True)), straight)


def test_resume_does_not_pass_over_the_checkpoint_of_an_earlier_version(options: Training) -> None:
    options.out.mkdir()
    (options.out / "checkpoint.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="is of an earlier version: --start-from"):
        train(replace(options, resume=True))


def test_resume_refuses_another_architecture(options: Training) -> None:
    train(replace(options, steps=1))
    with pytest.raises(ValueError, match=r"another training: resume with the same solver and options"):
        train(replace(options, resume=True, architecture=replace(SMALL, channels=(4, 7))))


def test_sigterm_on_the_command_line_saves_and_exits_0(
    program: Program, monkeypatch: pytest.MonkeyPatch, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    interrupt_after(monkeypatch, 1, signal.SIGTERM)
    out = tmp_path / "run"
    sizes = {"steps": 50, "batch": 1, "size": 16, "large-size": 16, "validation-size": 32, "pool": 1, "distil-steps": 0}
    arguments = [a for name, value in sizes.items() for a in (f"--{name}", value)]
    status, output, err = program("train", "--photos", folders[0], "--paintings", folders[1], "--out", out, *arguments)
    assert (status, output) == (0, ""), err
    assert checkpoints.load(out / "checkpoint.pt")["step"] == 1
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
    average = checkpoint_of(options)["average"]
    for name, parameter in solver.update.named_parameters():
        assert not parameter.requires_grad
        assert parameter.dtype == torch.float32
        torch.testing.assert_close(parameter, average[f"module.solver.update.{name}"], rtol=1e-3, atol=1e-4)
    x, style = draw(20, 20), draw(20, 20, phase=1)
    assert bool(solver(x, solver.update.encode(style)).x.isfinite().all())  # type: ignore[operator]


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 1},
        {"size": 24},
        {"large_size": 24, "large_from": 0.5},
        {"pool": 1},
        {"single_steps": 0},
        {"single_steps": 2},
        {"early": 0.0},
        {"hardness": 0.0},
        {"plain_share": 1.0},
        {"rate": 5e-3},
        {"optimiser": "muon"},
        {"decay": 1.0},
        {"ema": 0.0},
        {"seed": 1},
        {"bfloat16": not has_bfloat16(torch.device("cpu"))},
        {"steps": 2},
        {"architecture": replace(SMALL, kinds=("whitening", "whitening"))},
    ],
    ids=str,
)
def test_each_option_changes_the_training(
    options: Training, straight: dict[str, Tensor], change: dict[str, Any]
) -> None:
    assert not same(outcome(replace(options, **change)), straight)


@pytest.mark.parametrize(("capabilities", "has"), [({"avx2": True}, False), ({"avx2": True, "amx_bf16": True}, True)])
def test_mixed_precision_is_for_what_has_it(
    capabilities: dict[str, object], has: bool, options: Training, straight: dict[str, Tensor], monkeypatch: Any
) -> None:
    # Emulated, it took twenty times as long as float32.
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": False, **capabilities}, raising=False)
    assert has_bfloat16(torch.device("cpu")) is has
    assert same(outcome(options), outcome(replace(options, bfloat16=has)))


def test_a_training_starts_from_given_weights(options: Training, weights: Path) -> None:
    architecture = read_checkpoint(weights).architecture
    options = replace(options, start_from=weights, architecture=architecture, steps=1, rate=1e-12)
    tensors = outcome(options)
    for name, value in read_checkpoint(weights).tensors.items():
        torch.testing.assert_close(tensors[f"update.{name}"], value)


def test_checkpoints_are_saved_on_the_way(options: Training) -> None:
    train(replace(options, save_minutes=0))
    assert [line["step"] for line in log_of(options) if "validation" in line] == [1, 2, 3]


def test_a_budget_in_minutes_ends(options: Training) -> None:
    train(replace(options, steps=None, minutes=1e-6))
    assert checkpoint_of(options)["step"] == 1


def test_a_non_finite_step_is_skipped_and_counted(options: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outcome(replace(options, steps=2, decay=0.0, out=options.out / "calm"))
    batch = Pool.batch

    def poisoned(self: Pool, generator: torch.Generator, size: int) -> Batch:
        found = batch(self, generator, size)
        made.append(found)
        return found._replace(contents=found.contents * torch.nan) if len(made) == 3 else found

    made: list[Batch] = []
    monkeypatch.setattr(Pool, "batch", poisoned)
    found = outcome(replace(options, decay=0.0))
    assert same(found, expected), "the poisoned third step leaves parameters, average and moments as they were"
    assert checkpoint_of(options)["skipped"] == 1


def test_training_without_held_back_pictures_runs(options: Training, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    to_pil(draw(30, 20)).save(folder / "p0.png")
    train(replace(options, photos=(folder,), paintings=(folder,), steps=1))
    assert not [line for line in log_of(options) if "validation" in line]
    assert not (options.out / "sheet.png").exists()


def test_training_lowers_the_loss(options: Training) -> None:
    options = replace(options, steps=100, rate=1e-3, size=32, large_size=32, pool=20, single_steps=20, ema=0.0)
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


FOUR = Architecture(channels=(4, 4, 4, 4), convolutions=(2, 1, 2, 2), kinds=("whitening", "gradient"))


def test_an_interrupted_distillation_begins_again(options: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(options, architecture=FOUR, distil_steps=2, steps=1, batch=1)
    original = functools.partial(train_module.distil, optimised=1)  # for speed
    monkeypatch.setattr(train_module, "distil", original)
    expected = outcome(replace(options, out=options.out / "straight"))

    def interrupting(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "distil", interrupting)
        train(options)
    assert not (options.out / "checkpoint.pt").exists(), "nothing was trained"
    assert same(outcome(replace(options, resume=True)), expected)
    assert not same(outcome(replace(options, distil_steps=3, out=options.out / "more")), expected)


def test_distillation_gives_all_steps_forward_maps_that_resemble_vgg(pairs: Pairs, vgg: VGG19) -> None:
    torch.manual_seed(0)
    update, pool, objective = GramUpdate(FOUR), make_pool(pairs, vgg, size=32), reference_objective(vgg)
    before = {k: v.clone() for k, v in update.state_dict().items()}
    distil(update, vgg, objective, pool, steps=150, optimised=1, bfloat16=False)
    assert len({p.data_ptr() for p in update.parameters()}) == len(list(update.parameters()))
    one, other = (g.state_dict() for g in update.gradients)
    for name, value in one.items():
        if ".forward_maps." in name:
            assert torch.equal(value, other[name]), name
            if name.endswith("1.weight"):
                mirror = other[name.replace("forward", "backward")]
                torch.testing.assert_close(mirror, value.transpose(0, 1).flip(2, 3), rtol=0, atol=0)
            assert not torch.equal(value, before[f"gradients.0.{name}"]), name
        else:
            assert torch.equal(value, before[f"gradients.0.{name}"]), name
    # What the taps imitate is a linear map of VGG's features: affine least squares tells how much they know of them.
    images = pool.pictures().float() / 255
    after = {k: v.clone() for k, v in update.state_dict().items()}

    @torch.no_grad()
    def unknown(state: dict[str, Tensor], level: int) -> float:
        update.load_state_dict(state)
        rows = vgg(images)[level].movedim(1, 0).flatten(1).T
        taps = cast(GramGradient, update.gradients[1]).features(images)[level][-1].movedim(1, 0).flatten(1).T
        taps = torch.cat([taps, torch.ones_like(taps[:, :1])], 1)
        return float((taps @ torch.linalg.lstsq(taps, rows, driver="gelsd").solution - rows).norm())

    for level in range(4):
        assert unknown(after, level) < 0.99 * unknown(before, level), level


def test_distillation_wants_the_levels_of_vgg(pairs: Pairs, vgg: VGG19) -> None:
    with pytest.raises(ValueError, match="needs the four levels of VGG, the updates have 2"):
        distil(GramUpdate(SMALL), vgg, reference_objective(vgg), make_pool(pairs, vgg), steps=1)


def test_the_first_steps_train_g_0_alone_and_those_of_its_kind_start_as_its_copies(options: Training) -> None:
    options = replace(options, architecture=replace(SMALL, kinds=("whitening", "whitening", "gradient")))
    single = outcome(replace(options, steps=2, single_steps=2, out=options.out / "single"))
    torch.manual_seed(options.seed)
    start = _Run(options).update
    for name, value in start.state_dict().items():
        if name.endswith("weight"):
            moved = not torch.equal(single[f"update.{name}"], value)
            assert moved == name.startswith("gradients.0."), name
    copied = outcome(replace(options, steps=3, single_steps=2, rate=1e-9, decay=0.0))
    for name, value in start.state_dict().items():
        _, t, rest = name.split(".", 2)
        source = value if t == "2" else copied[f"update.gradients.0.{rest}"]
        torch.testing.assert_close(copied[f"update.{name}"], source, rtol=0, atol=1e-6)


def make_pool(pairs: Pairs, vgg: VGG19, number: int = 0, size: int = 24) -> Pool:
    cpu = torch.device("cpu")
    return Pool(pairs, vgg, number=number, count=3, size=size, device=cpu, bfloat16=False)


def test_a_pool_hands_out_what_the_losses_would_compute(pairs: Pairs, vgg: VGG19) -> None:
    batch = make_pool(pairs, vgg).batch(torch.Generator().manual_seed(0), 4)
    targets = encode_targets(vgg, batch.contents, batch.styles)
    for found, expected in zip(
        (batch.targets.content, *batch.targets.grams), (targets.content, *targets.grams), strict=True
    ):
        # The pictures are kept in 8 bits, the features in bfloat16.
        assert float((found - expected).norm()) < 0.02 * float(expected.norm())
    before = _before(batch)
    torch.testing.assert_close(before, reference_objective(vgg)(batch.contents, targets), rtol=0.05, atol=0)


def test_the_pairs_of_a_pool_depend_on_its_number_and_the_generator(pairs: Pairs, vgg: VGG19) -> None:
    def batch(number: int, seed: int) -> Batch:
        return make_pool(pairs, vgg, number=number).batch(torch.Generator().manual_seed(seed), 4)

    first = batch(0, 0)
    assert torch.equal(first.contents, batch(0, 0).contents)
    assert torch.equal(first.styles, batch(0, 0).styles)
    for other in (batch(1, 0), batch(0, 1)):
        assert not torch.equal(first.contents, other.contents)
        assert not torch.equal(first.styles, other.styles)


def test_early_batches_stop_at_each_earlier_step(options: Training) -> None:
    options = replace(options, single_steps=0)
    three = _Run(replace(options, architecture=replace(SMALL, kinds=("whitening",) * 3)))
    g = torch.Generator().manual_seed(0)
    depths = [three._depth(g, 3) for _ in range(400)]
    assert set(depths) == {1, 2, 3}
    assert abs(depths.count(3) / 400 - 0.5) < 0.1
    for early, expected in ((0.0, {3}), (1.0, {1, 2})):
        run = _Run(replace(options, early=early, architecture=replace(SMALL, kinds=("whitening",) * 3)))
        assert {run._depth(g, 3) for _ in range(40)} == expected
    single = _Run(replace(options, early=1.0, architecture=replace(SMALL, kinds=("whitening",))))
    assert single._depth(g, 1) == 1


def test_smaller_weights_are_grown_into_the_architecture(options: Training) -> None:
    first = train(replace(options, out=options.out / "first"))
    larger = replace(SMALL, convolutions=(2, 3), kinds=(*SMALL.kinds, SMALL.kinds[0]))
    train(replace(options, start_from=first, architecture=larger))
    assert load_solver(options.out / "solver.safetensors").steps == 3
    with pytest.raises(ValueError, match="do not grow into"):
        train(replace(options, start_from=first, architecture=replace(larger, channels=(4, 8))))
