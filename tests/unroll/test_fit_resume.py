"""Interrupted trainings end as those that were not: by resuming, by signals, on two processes."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import unroll
from unroll._training import _checkpoint as checkpoints

PROBLEM = unroll.recipes.SparseRecovery(m=6, n=10)
ROOT = Path(__file__).parents[2]


def data(at: unroll.Progress) -> tuple[Tensor, Tensor, Tensor]:
    x, y = PROBLEM.batch(4, torch.Generator().manual_seed(at.step))
    return torch.zeros_like(x), y, x


class Noisy(torch.utils.data.IterableDataset):
    """Five batches that follow from torch's random state, as those of a shuffling loader do."""

    def __iter__(self) -> Iterator[Any]:
        for _ in range(5):
            x = torch.randn(4, 10)
            yield torch.zeros_like(x), x @ PROBLEM.matrix.mT, x


class Stateful:
    """Batches of a generator of its own, with a place that can be saved."""

    def __init__(self) -> None:
        self.place = 0

    def __iter__(self) -> Iterator[Any]:
        while self.place < 4:
            self.place += 1
            x, y = PROBLEM.batch(4, torch.Generator().manual_seed(self.place))
            yield torch.zeros_like(x), y, x
        self.place = 0

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


def generator() -> Iterator[Any]:
    own = torch.Generator().manual_seed(7)
    while True:
        x, y = PROBLEM.batch(4, own)
        yield torch.zeros_like(x), y, x


def shuffled() -> Any:
    x, y = PROBLEM.batch(20, torch.Generator().manual_seed(3))
    parts = torch.utils.data.TensorDataset(torch.zeros_like(x), y, x)
    return torch.utils.data.DataLoader(parts, batch_size=4, shuffle=True)


FIXED = list(shuffled())


def run(path: Path, *, source: Any = None, resume: bool = False, solver: Any = None, **options: Any) -> Any:
    """Return all that the checkpoint of a training holds."""
    torch.manual_seed(0)
    solver = solver or unroll.recipes.lista(PROBLEM.matrix, 3)
    settings = {"steps": 8, "lr": 1e-2, "ema": 0.9, "log_every": 3, "loss": unroll.Supervised(), **options}
    loss = settings.pop("loss")
    unroll.fit(solver, loss, source or data, checkpoint=path, resume=resume, **settings)
    return checkpoints.load(path)


def same(one: Any, other: Any) -> bool:
    """Whether two states are bit-equal but for the clock."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items() if k != "seconds")
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def stop_at(step: int) -> Any:
    def callback(at: unroll.Progress) -> None:
        at.stopped = at.step == step

    return callback


def noisy_loss(solve: unroll.Solve, batch: Any) -> Tensor:
    x0, y, x = batch
    return (solve(x0 + 0.01 * torch.randn_like(x0), y).x - x).square().sum(1)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (lambda: data, {}),
        (lambda: data, {"loss": noisy_loss}),
        (lambda: data, {"precision": torch.float16, "clip": 1.0}),
        (lambda: data, {"stages": unroll.StageWise(alone=0.5), "schedule": unroll.Trapezoid(2, 0.5)}),
        (lambda: data, {"optimizer": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9), "ema": None}),
        (Noisy, {}),
        (Stateful, {"loss": noisy_loss}),
        (generator, {"loss": noisy_loss}),
        (shuffled, {}),
        (lambda: FIXED, {"loss": noisy_loss}),
    ],
)
@pytest.mark.parametrize("when", [2, 5, 6])
def test_resumed_is_bit_equal_to_straight(tmp_path: Path, source: Any, options: dict[str, Any], when: int):
    straight = run(tmp_path / "straight.pt", source=source(), **options)
    stopped = run(tmp_path / "run.pt", source=source(), callbacks=[stop_at(when)], **options)
    assert stopped["step"] == when
    assert not same(stopped, straight)
    torch.rand(3)
    assert same(run(tmp_path / "run.pt", source=source(), resume=True, **options), straight)


def test_a_scheduler_of_torch_resumes(tmp_path: Path):
    def parts() -> dict[str, Any]:
        solver = unroll.recipes.lista(PROBLEM.matrix, 3)
        optimizer = torch.optim.Adam(solver.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
        return {"solver": solver, "optimizer": optimizer, "schedule": schedule, "lr": None}

    straight = run(tmp_path / "straight.pt", **parts())
    run(tmp_path / "run.pt", callbacks=[stop_at(3)], **parts())
    assert same(run(tmp_path / "run.pt", resume=True, **parts()), straight)


def test_resume_without_a_checkpoint_begins_and_a_finished_one_stays(tmp_path: Path):
    first = run(tmp_path / "run.pt", resume=True)
    assert same(run(tmp_path / "run.pt", resume=True), first)
    assert same(run(tmp_path / "run.pt"), first), "without resume it begins anew"


def test_the_log_goes_on_from_the_checkpoint(tmp_path: Path):
    run(tmp_path / "a.pt", log=tmp_path / "straight.jsonl")
    run(tmp_path / "b.pt", log=tmp_path / "log.jsonl", callbacks=[stop_at(4)])
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 1.0}\n{"step": 2, "lo')  # what a killed run may leave
    run(tmp_path / "b.pt", log=tmp_path / "log.jsonl", resume=True)
    straight, resumed = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("straight", "log")
    )
    assert [line["step"] for line in resumed] == [3, 6, 8]
    for one, other in zip(straight, resumed, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


def test_a_failure_while_writing_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run.pt"
    before = run(path)

    def fail(state: Any, file: Any) -> None:
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(OSError, match="No space"):
            run(path, steps=9)
    assert same(checkpoints.load(path), before)
    assert os.listdir(tmp_path) == ["run.pt"]


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made-by-a-pickle",)


def test_what_is_no_checkpoint_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.pt"
    torch.save({"format": "unroll.fit/1", "step": Malicious()}, path)
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        run(path, resume=True)
    assert not Path("made-by-a-pickle").exists()
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        run(path, resume=True)
    torch.save({"weights": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"is not a checkpoint of unroll\.fit"):
        run(path, resume=True)


@pytest.mark.parametrize(
    "other",
    [
        {"solver": unroll.recipes.lista(PROBLEM.matrix, 4)},
        {"ema": None},
        {"optimizer": lambda p, lr: torch.optim.SGD([{"params": [q]} for q in p], lr)},
    ],
)
def test_another_training_is_refused(tmp_path: Path, other: dict[str, Any]):
    run(tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"is of another training: resume with the same solver and options") as caught:
        run(tmp_path / "run.pt", resume=True, **other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_training_and_leave_the_handlers(tmp_path: Path, number: int):
    before = signal.getsignal(number)
    ended = run(tmp_path / "run.pt", callbacks=[lambda at: signal.raise_signal(number) if at.step == 3 else None])
    assert ended["step"] == 3
    assert signal.getsignal(number) is before
    assert same(run(tmp_path / "run.pt", resume=True), run(tmp_path / "straight.pt"))


def test_a_second_interrupt_is_not_caught(tmp_path: Path):
    def twice(at: unroll.Progress) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    # A shell without job control starts what runs in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run.pt", callbacks=[twice])
    finally:
        signal.signal(signal.SIGINT, before)


SCRIPT = """
import functools, os, signal, sys
from pathlib import Path
import torch
import torch.distributed as dist
import unroll

mode, path = sys.argv[1:]
torch.manual_seed(0)
processes = "RANK" in os.environ
if processes:
    dist.init_process_group("gloo")
rank, count = (dist.get_rank(), dist.get_world_size()) if processes else (0, 1)
problem = unroll.recipes.SparseRecovery(m=6, n=10)

def data(at):
    x, y = problem.batch(8, torch.Generator().manual_seed(at.step))
    part = slice(rank * 8 // count, (rank + 1) * 8 // count)
    return torch.zeros_like(x[part]), y[part], x[part]

def disturb(at):
    if at.step == 3 and rank == count - 1:
        if mode != "plain":
            os.kill(os.getpid(), getattr(signal, mode))

result = unroll.fit(
    unroll.recipes.lista_cp(problem.matrix, 3), unroll.Supervised(), data, steps=6,
    optimizer=functools.partial(torch.optim.SGD, momentum=0.9), lr=0.1, ema=0.5, stages=unroll.StageWise(),
    checkpoint=Path(path), resume=True, save_every=0, callbacks=[disturb],
)
if processes:
    dist.destroy_process_group()
if rank == count - 1:
    sys.stdout.write(f"interrupted {result.interrupted}, step {result.step}")
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT)
    return path


def here(script: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the script to its end in this process and return the checkpoint."""
    monkeypatch.setattr(sys, "argv", [str(script), "plain", str(path)])
    runpy.run_path(str(script))
    return checkpoints.load(path)


def launch(script: Path, path: Path, mode: str, *, processes: int | None = None) -> tuple[int, str]:
    """Run the script in a process of its own, or in several by torchrun; return its status and what it said."""
    by_torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(by_torchrun if processes else []), str(script), mode, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as run:
        try:
            said, _ = run.communicate(timeout=300)
        finally:
            run.terminate()  # after a timeout: torchrun then ends its processes, too
    return run.returncode, said


def test_sigterm_to_a_process_leaves_what_can_be_resumed(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert launch(script, tmp_path / "run.pt", "SIGTERM") == (0, "interrupted True, step 3")
    assert checkpoints.load(tmp_path / "run.pt")["step"] == 3
    straight = here(script, tmp_path / "straight.pt", monkeypatch)
    assert same(here(script, tmp_path / "run.pt", monkeypatch), straight)
    assert capsys.readouterr().out == 2 * "interrupted False, step 6"


GROUP = """
import gc, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
import unroll

def threads():
    return [Path(f"/proc/self/task/{i}/comm").read_text().strip() for i in os.listdir("/proc/self/task")]

gc.disable()
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=0, world_size=1)
problem = unroll.recipes.SparseRecovery(m=6, n=10)
x, y = problem.batch(8, torch.Generator())
solver = unroll.recipes.lista_cp(problem.matrix, 3)
unroll.fit(solver, unroll.Supervised(), [(0 * x, y, x)], steps=2, lr=0.1, checkpoint=Path(sys.argv[1]) / "run.pt")
during = sum("gloo" in name for name in threads())
dist.destroy_process_group()
sys.stdout.write(f"{during > 0} {sum('gloo' in name for name in threads())}")
"""


def test_nothing_of_a_process_group_outlives_a_training(tmp_path: Path):
    # Threads of a group that is held beyond its end abort the interpreter, now and then, as it ends. What waits for the
    # garbage collector holds it, too, as a wrapper would that reduced the gradients of later backward passes.
    command = [sys.executable, "-c", GROUP, str(tmp_path)]
    found = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert found.stdout == "True 0"


def test_two_processes_train_as_one_with_the_joined_batch_killed_and_resumed(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "two.pt"
    status, _ = launch(script, path, "SIGKILL", processes=2)
    assert status != 0
    assert checkpoints.load(path)["step"] == 2, "the third step was done, but not saved"
    # A signal to one of them ends both.
    assert launch(script, path, "SIGTERM", processes=2) == (0, "interrupted True, step 3")
    assert launch(script, path, "plain", processes=2) == (0, "interrupted False, step 6")
    one, two = here(script, tmp_path / "one.pt", monkeypatch), checkpoints.load(path)
    assert len(two["processes"]) == 2
    for kind in ("parts", "average"):
        for name, value in one[kind].items():
            torch.testing.assert_close(two[kind][name], value, rtol=1e-5, atol=1e-6)
    for name, value in unroll.recipes.lista_cp(PROBLEM.matrix, 3).state_dict().items():
        assert not torch.equal(value, one["parts"][f"solver.{name}"])
    with pytest.raises(ValueError, match="was saved by 2 processes and is resumed by 1: run as many"):
        here(script, path, monkeypatch)
