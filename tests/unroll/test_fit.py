"""Training: what it computes, against loops written by hand and closed forms."""

from __future__ import annotations

import json
import re
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from problems import LeastSquares, problem
from torch import Tensor, nn

import unroll
from unroll._training._average import moving_average

A, Y, X0 = problem()
TARGET = torch.linalg.lstsq(A, Y.mT).solution.mT


def make(steps: int = 3) -> unroll.Unrolled:
    sizes = (nn.Parameter(torch.tensor(0.02 + 0.01 * t, dtype=torch.float64)) for t in range(steps))
    return unroll.Unrolled(unroll.PerStep(unroll.GradientStep(LeastSquares(), s) for s in sizes), steps=steps)


def batch(step: int) -> tuple[Tensor, Any, Tensor]:
    noise = torch.randn(X0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    return X0 + 0.1 * noise, (A, Y), TARGET


def data(at: unroll.Progress) -> tuple[Tensor, Any, Tensor]:
    return batch(at.step)


def train(solver: unroll.Unrolled | None = None, loss: Any = None, **options: Any) -> tuple[Tensor, unroll.Fitted]:
    """Train and return the step sizes and the result."""
    solver = solver or make()
    result = unroll.fit(
        solver, loss or unroll.Supervised(), options.pop("data", data), **{"steps": 4, "lr": 1e-3, **options}
    )
    return torch.stack(list(solver.parameters())).detach(), result


def by_hand(loss: Any, steps: int = 4) -> Tensor:
    solver = make()
    optimiser = torch.optim.Adam(solver.parameters(), lr=1e-3)
    for step in range(steps):
        optimiser.zero_grad()
        loss(solver, *batch(step)).backward()
        optimiser.step()
    return torch.stack(list(solver.parameters())).detach()


def test_supervised_is_the_loop_written_by_hand():
    found, result = train()
    assert torch.equal(found, by_hand(lambda s, x0, d, x: (s(x0, d).x - x).square().sum(1).mean()))
    assert (result.step, result.skipped, result.interrupted) == (4, 0, False)
    l1, _ = train(loss=unroll.Supervised(lambda x, y: (x - y).abs().sum(1)))
    assert torch.equal(l1, by_hand(lambda s, x0, d, x: (s(x0, d).x - x).abs().sum(1).mean()))


def test_unsupervised_is_the_loop_written_by_hand():
    f = LeastSquares()
    found, _ = train(loss=unroll.Unsupervised(f))
    assert torch.equal(found, by_hand(lambda s, x0, d, x: f(s(x0, d).x, d).mean()))


@pytest.mark.parametrize("weights", [(0.5, 1.0), (0.2, 0.0, 1.0)])
def test_weights_are_those_of_the_last_iterates(weights: tuple[float, ...]):
    def loss(s: Any, x0: Tensor, d: Any, x: Tensor) -> Tensor:
        iterates = s(x0, d, probe=lambda now, t: now).trace[-len(weights) :]
        return sum(w * LeastSquares()(now, d).mean() for w, now in zip(weights, iterates, strict=True))

    found, _ = train(loss=unroll.Unsupervised(LeastSquares(), weights))
    torch.testing.assert_close(found, by_hand(loss), rtol=1e-12, atol=0)


def test_a_loss_may_return_samples_and_numbers():
    def loss(solve: unroll.Solve, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        error = (solve(batch[0], batch[1]).x - batch[2]).square().sum(1)
        return error, {"worst": error.max()}

    found, result = train(loss=loss, log_every=2)
    assert torch.equal(found, train()[0])
    assert [line["step"] for line in result.log] == [2, 4]
    solver, expected = make(), []
    for step in range(2):
        expected.append((solver(*batch(step)[:2]).x - TARGET).square().sum(1).max().item())
        train(solver, steps=1, data=[batch(step)], lr=1e-3)
    assert result.log[0]["worst"] == pytest.approx(sum(expected) / 2, rel=1e-2)


def shown(value: Any) -> str:
    """Return what a case is called: the same in every process."""
    return re.sub(r" at 0x\w+", "", str(value))


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 5},
        {"lr": 2e-3},
        {"optimizer": torch.optim.SGD},
        {"schedule": unroll.Trapezoid(warmup=2)},
        {"schedule": unroll.Trapezoid(decay=0.9)},
        {"schedule": lambda at: 0.5 if at.seconds >= 0 else 1.0},
        {"clip": 1e-3, "optimizer": torch.optim.SGD},
        {"projector": unroll.Box(0, 0.1)},
        {"adjoint": unroll.Truncated(1)},
        {"stages": unroll.StageWise()},
        {"stages": unroll.StageWise(until=0.5)},
        {"stages": unroll.StageWise(alone=1.0)},
        {"loss": unroll.Supervised(weights=(1.0, 1.0))},
        {"data": [batch(9)]},
    ],
    ids=shown,
)
def test_each_option_changes_the_training(options: dict[str, Any]):
    assert not torch.equal(train(**options)[0], train()[0])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_used_and_gives_nearly_the_same(precision: torch.dtype):
    problem, found, seen = unroll.recipes.SparseRecovery(m=6, n=10), {}, []
    x, y = problem.batch(8, torch.Generator().manual_seed(0))

    def loss(solve: unroll.Solve, batch: Any) -> Tensor:
        seen.append((batch[0] @ torch.ones(10, 10)).dtype)
        return unroll.Supervised()(solve, batch)

    for choice in (None, precision):
        solver = unroll.recipes.lista(problem.matrix, 3)
        optimizer = partial(torch.optim.SGD, momentum=0.9)
        unroll.fit(solver, loss, [(0 * x, y, x)], steps=20, optimizer=optimizer, lr=1e-2, precision=choice)
        found[choice] = torch.cat([p.detach().flatten() for p in solver.parameters()])
        assert found[choice].dtype == torch.float32
    assert set(seen) == {torch.float32, precision}
    assert not torch.equal(found[None], found[precision])
    torch.testing.assert_close(found[precision], found[None], rtol=0.05, atol=0.02)


def test_the_average_is_that_of_its_closed_form():
    seen: list[Tensor] = []
    solver = make()
    last, result = train(
        solver,
        ema=0.4,
        steps=9,
        callbacks=[lambda at: seen.append(torch.stack([p.detach().clone() for p in at.solver.parameters()]))],
    )
    momentum = [min(0.4, t / (t + 10)) for t in range(1, 10)]
    momentum[0] = 0.0
    weights = [(1 - d) * torch.tensor(momentum[t + 1 :]).prod().item() for t, d in enumerate(momentum)]
    expected = sum(w * theta for w, theta in zip(weights, seen, strict=True))
    assert result.solver is not solver
    torch.testing.assert_close(torch.stack(list(result.solver.parameters())).detach(), expected, rtol=1e-6, atol=0)
    assert torch.equal(last, seen[-1])
    assert momentum[-1] == 0.4, "the decay itself is reached"


def test_the_average_with_no_memory_is_the_last():
    module = nn.Linear(2, 2)
    average = moving_average(module, 0.0)
    for _ in range(3):
        with torch.no_grad():
            module.weight.add_(1)
        average.update_parameters(module)
        assert torch.equal(average.module.weight, module.weight)


def test_clipping_bounds_the_norm():
    start = torch.stack(list(make().parameters())).detach()
    found, result = train(steps=1, clip=0.25, lr=1.0, optimizer=torch.optim.SGD)
    assert float((found - start).norm()) == pytest.approx(0.25, rel=1e-5)
    assert result.log[0]["gradient"] > 0.25


def test_schedules_follow_their_formula():
    rates: list[float] = []
    optimizer_solver = make()
    optimizer = torch.optim.SGD(optimizer_solver.parameters(), lr=0.01)
    train(
        optimizer_solver,
        optimizer=optimizer,
        lr=None,
        steps=10,
        schedule=unroll.Trapezoid(warmup=4, decay=0.5),
        callbacks=[lambda at: rates.append(optimizer.param_groups[0]["lr"])],
    )
    expected = [0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]
    assert rates == pytest.approx([0.01 * factor for factor in expected])


def test_a_scheduler_of_torch_takes_a_step_each():
    solver = make()
    optimizer = torch.optim.SGD(solver.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.1)
    train(solver, optimizer=optimizer, lr=None, schedule=schedule, steps=5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_stages_grow_and_leave_earlier_steps_alone():
    stages = unroll.StageWise(until=0.75, alone=0.5)
    found = [stages.at(share, 3) for share in (0.0, 0.13, 0.26, 0.4, 0.51, 0.65, 0.75, 1.0)]
    assert found == [(1, True), (1, False), (2, True), (2, False), (3, True), (3, False), (3, False), (3, False)]
    seen: list[Tensor] = [torch.stack(list(make().parameters())).detach()]
    train(
        stages=unroll.StageWise(alone=0.5),
        steps=6,
        callbacks=[lambda at: seen.append(torch.stack([p.detach().clone() for p in at.solver.parameters()]))],
    )
    moved = [((b - a) != 0).tolist() for a, b in pairwise(seen)]
    new, all_of_them = moved[::2], moved[1::2]
    assert new == [[True, False, False], [False, True, False], [False, False, True]]
    assert all_of_them == [[True, False, False], [True, True, False], [True, True, True]]


def test_the_projector_is_trained_too_and_averaged():
    soft = unroll.SoftThreshold(nn.Parameter(torch.tensor(0.05, dtype=torch.float64)))
    _, result = train(projector=soft, ema=0.9)
    (threshold,) = soft.parameters()
    assert threshold.item() != 0.05
    assert result.projector is not soft
    assert next(result.projector.parameters()).item() != threshold.item()


def test_a_non_finite_step_changes_nothing_and_is_counted():
    def poisoned(at: unroll.Progress) -> Any:
        x0, d, x = batch(at.step)
        return (x0 * torch.nan if at.step == 3 else x0), d, x

    found, result = train(data=poisoned, ema=0.5)
    expected, calm = train(steps=3, ema=0.5)
    assert torch.equal(found, expected)
    for one, other in zip(result.solver.parameters(), calm.solver.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (result.step, result.skipped) == (4, 1)


def test_a_training_that_gives_nan_for_ever_is_ended():
    with pytest.raises(ValueError, match="not finite in 100 steps in a row, the last of them step 100"):
        train(data=[(X0 * torch.nan, (A, Y), TARGET)], steps=1000)


def test_budgets_in_seconds_and_callbacks_end_it():
    _, result = train(steps=None, seconds=1e-9)
    assert result.step == 1
    shares: list[float] = []
    _, result = train(steps=None, seconds=0.05, callbacks=[lambda at: shares.append(at.share)])
    assert shares == sorted(shares)
    assert shares[-1] == 1 > shares[0]

    def stop(at: unroll.Progress) -> None:
        at.stopped = at.step == 2

    _, result = train(callbacks=[stop])
    assert (result.step, result.interrupted) == (2, False)


def test_log_lines_parse(tmp_path):
    path = tmp_path / "run" / "log.jsonl"
    _, result = train(steps=5, log=path, log_every=2, evaluate=lambda at: {"error": [1.0, 2.0], "at": at.step})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == result.log
    assert [line["step"] for line in lines] == [2, 4, 5, 5]
    assert all(set(line) == {"step", "seconds", "loss", "gradient", "skipped"} for line in lines[:3])
    assert lines[3]["error"] == [1.0, 2.0]
    train(steps=2, log=str(path))
    assert len(path.read_text().splitlines()) == 1, "begun anew"


def test_it_evaluates_the_average_at_every_save():
    solver, seen = make(), []

    def evaluate(at: unroll.Progress) -> dict[str, float]:
        seen.append(at.step)
        assert at.solver is solver
        assert at.average is not solver
        return {}

    train(solver, save_every=0, ema=0.5, evaluate=evaluate)
    assert seen == [1, 2, 3, 4]
    train(solver, evaluate=lambda at: seen.append(at.average is solver) or {})
    assert seen[-1] is True


def test_the_bar_is_drawn_on_a_terminal_alone(capsys, monkeypatch):
    train()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    train(log_every=1)
    assert "training" in capsys.readouterr().err
    train(bar=False)
    assert capsys.readouterr().err == ""


FROZEN = make().requires_grad_(False)
MISMATCHED = [(X0[:, :3], (A[:, :3], Y), TARGET)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": None}, "as steps or as seconds, one of the two"),
        ({"seconds": 1.0}, "as steps or as seconds, one of the two"),
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"clip": -1.0}, "clip must be positive"),
        ({"log_every": 0}, "log_every must be positive"),
        ({"ema": 1.0}, "ema must lie in [0, 1), got 1.0"),
        ({"precision": torch.float64}, "precision must be"),
        ({"save_every": -1.0}, "save_every must be at least 0"),
        ({"resume": True}, "resume needs the path of a checkpoint"),
        ({"solver": FROZEN}, "nothing to train"),
        ({"optimizer": torch.optim.SGD(make().parameters(), lr=0.1)}, "lr is for an optimizer that fit makes"),
        ({"optimizer": torch.optim.SGD(make().parameters(), lr=0.1), "lr": None}, "no parameter of the solver"),
        ({"data": []}, "the data gave no batch"),
        ({"data": iter([batch(0)])}, "pass what can be iterated anew"),
        ({"data": [X0]}, "needs batches (x0, data, target), the data gave a Tensor"),
        ({"data": [(X0, (A, Y))]}, "needs batches (x0, data, target), the data gave 2 parts"),
        ({"data": MISMATCHED}, "the shape (3, 3) for a target of shape (3, 5)"),
        ({"loss": lambda solve, batch: batch[0].sum()}, "does not depend on what is trained"),
    ],
    ids=shown,
)
def test_bad_input_is_told_in_one_line(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        train(**options)
    assert "\n" not in str(caught.value)


def test_bad_nouns_are_refused():
    for wrong in (
        partial(unroll.Supervised, weights=()),
        partial(unroll.Unsupervised, LeastSquares(), weights=(1.0, 0.0)),
        partial(unroll.Trapezoid, warmup=-1),
        partial(unroll.Trapezoid, decay=2.0),
        partial(unroll.StageWise, until=0.0),
        partial(unroll.StageWise, alone=1.5),
    ):
        with pytest.raises(ValueError, match="must"):
            wrong()
    with pytest.raises(TypeError, match="an iterable of batches or a function"):
        train(data=3)
    solver = make()
    other = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(make().parameters(), lr=0.1), 2)
    with pytest.raises(ValueError, match="the scheduler is of another optimizer"):
        train(solver, schedule=other)
