"""The solver: equal to loops written by hand, with a projector that leaves no trace in the weights."""

from __future__ import annotations

import copy
import doctest
import importlib
import pkgutil
import subprocess
import sys
from typing import Any

import pytest
import torch
from problems import Affine, LeastSquares, problem
from torch import Tensor, nn

import unroll


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_steps_and_a_projector_are_bit_equal_to_the_loop_by_hand(dtype: torch.dtype) -> None:
    a, y, x0 = problem(dtype=dtype)
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=7)
    x = x0
    for _ in range(7):
        point = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(LeastSquares()(point, (a, y)).sum(), point)
        x = (x - 0.05 * gradient).clamp(-0.1, 0.3)
    assert torch.equal(solver(x0, (a, y), projector=unroll.Box(-0.1, 0.3)).x, x)


def test_projected_gradient_descent_reaches_the_constrained_minimum() -> None:
    a, y, x0 = problem()
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.02), steps=3000)
    x = solver(x0, (a, y), projector=unroll.Box(0.0, 0.2)).x
    gradient = (x @ a.T - y) @ a
    # The optimality conditions of a box: no force inside, outward forces at the walls.
    inside = (x > 1e-9) & (x < 0.2 - 1e-9)
    assert float(gradient[inside].abs().max()) < 1e-8
    assert bool((gradient[x <= 1e-9] >= -1e-8).all())
    assert bool((gradient[x >= 0.2 - 1e-9] <= 1e-8).all())


def test_soft_thresholding_solves_the_lasso() -> None:
    a, y, x0 = problem()
    step, weight = 0.02, 0.8
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), step), steps=4000)
    x = solver(x0, (a, y), projector=unroll.SoftThreshold(step * weight)).x
    gradient = (x @ a.T - y) @ a
    assert bool((gradient.abs() <= weight + 1e-7).all())
    torch.testing.assert_close(gradient[x != 0], -weight * x[x != 0].sign(), rtol=0, atol=1e-6)
    assert 0 < int((x == 0).sum()) < x.numel()


def test_swapping_the_projector_leaves_the_state_unchanged() -> None:
    torch.manual_seed(0)
    solver = unroll.Unrolled(unroll.PerStep([Affine(4), Affine(4)]), steps=2)
    before = copy.deepcopy(solver.state_dict())
    x0, basis = torch.randn(3, 4), torch.linalg.qr(torch.randn(4, 2)).Q
    projectors = [None, unroll.Box(), unroll.Subspace(basis), unroll.Identity(), None]
    results = [solver(x0, projector=p).x for p in projectors]
    after = solver.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(results[0], results[-1])
    assert torch.equal(results[0], results[3])
    assert not torch.allclose(results[0], results[1])
    assert not torch.allclose(results[0], results[2])


def test_tied_updates_go_on_past_their_training_and_untied_ones_refuse() -> None:
    tied = unroll.Unrolled(Affine(3), steps=2)
    x0 = torch.ones(1, 3)
    assert torch.equal(tied(x0, steps=5).x, tied(tied(x0, steps=3).x, steps=2).x)
    untied = unroll.Unrolled(unroll.PerStep([Affine(3), Affine(3)]), steps=2)
    assert torch.equal(untied(x0, steps=1).x, x0 - untied.update.updates[0](x0, None, 0))  # type: ignore[operator, index]
    with pytest.raises(ValueError, match="parameters for 2 steps, 3 were asked for"):
        untied(x0, steps=3)
    with pytest.raises(ValueError, match="parameters for 2 steps"):
        unroll.Unrolled(unroll.PerStep([Affine(3), Affine(3)]), steps=4)
    with pytest.raises(ValueError, match="at least 0"):
        tied(x0, steps=-1)
    with pytest.raises(ValueError, match="parameters for 2 steps"):
        unroll.Unrolled(unroll.Scaled(untied.update, 0.5), steps=3)


def test_a_prolonged_update_takes_its_last_ones_in_turn_without_end() -> None:
    steps = [Affine(3) for _ in range(4)]
    update = unroll.Prolonged(unroll.PerStep(steps), last=2)
    assert [update.index(t) for t in range(9)] == [0, 1, 2, 3, 2, 3, 2, 3, 2]
    assert [unroll.Prolonged(unroll.PerStep(steps)).index(t) for t in range(6)] == [0, 1, 2, 3, 3, 3]
    x0 = torch.ones(1, 3)
    x = x0
    for t in (0, 1, 2, 3, 2, 3, 2):
        x = x - steps[t](x, None, t)
    assert torch.equal(unroll.Unrolled(update, steps=7)(x0).x, x)
    assert not update.tied
    assert {id(p) for p in update.parameters()} == {id(p) for step in steps for p in step.parameters()}
    taus = unroll.Prolonged(unroll.PerStep([unroll.GradientStep(LeastSquares(), tau) for tau in (0.1, 0.2)]))
    assert [taus.tau(t) for t in range(4)] == [0.1, 0.2, 0.2, 0.2]
    with pytest.raises(ValueError, match="from 1 to 4 of the last updates can go on, got 5"):
        unroll.Prolonged(unroll.PerStep(steps), last=5)
    with pytest.raises(ValueError, match="Affine is tied"):
        unroll.Prolonged(Affine(3))


def test_a_scale_may_be_a_schedule() -> None:
    step, x0 = Affine(3), torch.ones(1, 3)
    falling = unroll.Scaled(step, lambda t: 1 / (t + 1))
    x = x0 - step(x0, None, 0)
    assert torch.equal(unroll.Unrolled(falling, steps=2)(x0).x, x - 0.5 * step(x, None, 1))
    assert falling.tau(3) == 0.25
    assert not falling.tied
    assert unroll.Scaled(step, 0.5).tied


def test_the_number_of_the_step_reaches_update_and_projector() -> None:
    seen: list[tuple[str, Any, int | None]] = []

    class Update(unroll.LearnedUpdate):
        def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
            seen.append(("update", data, t))
            return torch.zeros_like(x)

    class Watch(unroll.Identity):
        def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
            seen.append(("projector", tau, t))
            return v

    token = object()
    unroll.Unrolled(Update(), steps=2)(torch.zeros(1), token, projector=unroll.Compose([Watch()]))
    assert seen == [("update", token, 0), ("projector", 1.0, 0), ("update", token, 1), ("projector", 1.0, 1)]


def test_probes_see_every_iterate() -> None:
    solver = unroll.Unrolled(Affine(3), steps=3)
    x0 = torch.ones(1, 3)
    solution = solver(x0, probe=lambda x, t: (t, x))
    assert [t for t, _ in solution.trace] == [0, 1, 2, 3]
    for t, x in solution.trace:
        assert torch.equal(x, solver(x0, steps=t).x)
    assert solver(x0).trace == ()


def test_nothing_in_the_loop_reads_a_value_back() -> None:
    # Meta tensors have no values: whatever read one, a synchronisation on a GPU, would fail.
    subspace = unroll.Subspace(torch.eye(3)[:, :2]).to("meta")
    projector = unroll.Compose([unroll.Box(), subspace, unroll.SoftThreshold(0.1), unroll.Identity()])
    with torch.device("meta"):
        x0, data = torch.empty(2, 3), (torch.empty(4, 3), torch.empty(2, 4))
        learned = unroll.PerStep([Affine(3), Affine(3)])
    for update in (learned, unroll.Scaled(unroll.GradientStep(LeastSquares(), 0.1), 0.5)):
        for adjoint in (unroll.Backprop(), unroll.Checkpointed()):
            assert unroll.Unrolled(update, steps=2)(x0, data, projector=projector, adjoint=adjoint).x.is_meta


def test_shapes_that_change_are_an_error_that_quotes_both() -> None:
    class Wrong(unroll.LearnedUpdate):
        def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
            return x[:1]

    class Cut(unroll.Operator):
        def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
            return v[:, :2]

    x0 = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"Wrong returned the shape \(1, 3\) for an iterate of shape \(2, 3\)"):
        unroll.Unrolled(Wrong(), steps=1)(x0)
    with pytest.raises(ValueError, match=r"Cut returned the shape \(2, 2\)"):
        unroll.Unrolled(Affine(3), steps=1)(x0, projector=Cut())


def test_batches_are_their_samples_in_any_order() -> None:
    a, y, x0 = problem()
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=4)
    together = solver(x0, (a, y)).x
    alone = torch.cat([solver(x0[i : i + 1], (a, y[i : i + 1])).x for i in range(len(x0))])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(solver(x0[order], (a, y[order])).x, together[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("learned", [False, True])
def test_vmap_maps_the_solver(learned: bool) -> None:
    a, y, x0 = problem()
    update: unroll.LearnedUpdate = (
        Affine(x0.shape[1]).double() if learned else unroll.GradientStep(LeastSquares(), 0.05)
    )
    solver = unroll.Unrolled(update, steps=3)

    def one(x: Tensor, z: Tensor) -> Tensor:
        return solver(x[None], (a, z[None]), projector=unroll.SoftThreshold(0.01)).x[0]  # type: ignore[no-any-return]

    start = x0.clone().requires_grad_()
    together = solver(start, (a, y), projector=unroll.SoftThreshold(0.01)).x
    for graph in (torch.no_grad(), torch.enable_grad()):
        with graph:
            torch.testing.assert_close(torch.func.vmap(one)(x0, y), together)
    batches = torch.stack([x0, -x0])
    expected = torch.stack([solver(batch, (a, y)).x for batch in batches])
    torch.testing.assert_close(torch.func.vmap(lambda batch: solver(batch, (a, y)).x)(batches), expected)
    (gradient,) = torch.autograd.grad(together.square().sum(), start)
    mapped = torch.func.vmap(torch.func.grad(lambda x, z: one(x, z).square().sum()))(x0, y)
    torch.testing.assert_close(mapped, gradient)


def test_complex_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(8, 5, dtype=torch.complex128, generator=generator)
    y = torch.randn(1, 8, dtype=torch.complex128, generator=generator)
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=3000)
    x = solver(torch.zeros(1, 5, dtype=torch.complex128), (a, y)).x
    torch.testing.assert_close(x[0], torch.linalg.lstsq(a, y[0]).solution, rtol=0, atol=1e-9)


def test_autocast_and_no_grad() -> None:
    solver, x0 = unroll.Unrolled(Affine(4), steps=3), torch.randn(2, 4)
    with torch.no_grad():
        plain = solver(x0).x
    assert not plain.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        rough = solver(x0).x
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, plain)
    torch.testing.assert_close(rough, plain, rtol=0.05, atol=0.05)
    basis = torch.linalg.qr(torch.randn(4, 2)).Q
    with torch.autocast("cpu", torch.bfloat16):
        kept = solver(x0, projector=unroll.Subspace(basis)).x
    # What autocast roughens is the update, never the constraint.
    torch.testing.assert_close(kept @ basis @ basis.T, kept)
    a, y, x0 = problem()
    descent = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=3)
    with torch.no_grad():
        exact = descent(x0, (a, y)).x
    assert not exact.requires_grad
    assert torch.equal(exact, descent(x0, (a, y)).x)
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"LeastSquares .* under torch\.no_grad"):
        descent(x0, (a, y))


def test_solvers_survive_copies_and_their_state_dict() -> None:
    torch.manual_seed(0)
    solver, x0 = unroll.Unrolled(unroll.PerStep([Affine(3), Affine(3)]), steps=2), torch.randn(2, 3)
    twin = unroll.Unrolled(unroll.PerStep([Affine(3), Affine(3)]), steps=2)
    assert not torch.allclose(twin(x0).x, solver(x0).x)
    twin.load_state_dict(solver.state_dict())
    assert torch.equal(twin(x0).x, solver(x0).x)
    assert torch.equal(copy.deepcopy(solver)(x0).x, solver(x0).x)


def test_the_core_knows_nothing_of_images_and_graphs() -> None:
    code = (
        "import sys, unroll; print([m for m in ('graphs', 'apps', 'torchvision', 'PIL', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_doctests_hold() -> None:
    names = [f"unroll.{module.name}" for module in pkgutil.iter_modules(unroll.__path__)]
    results = [doctest.testmod(importlib.import_module(name)) for name in ["unroll", *names]]
    assert sum(r.attempted for r in results) > 0
    assert sum(r.failed for r in results) == 0


def test_abstract_nouns_say_what_to_define() -> None:
    x = torch.zeros(1, 1)
    for noun, call in (
        (unroll.LearnedUpdate(), lambda m: m(x, None, 0)),
        (unroll.Operator(), lambda m: m(x)),
        (unroll.Loss(), lambda m: m(x, None)),
    ):
        assert isinstance(noun, nn.Module)
        with pytest.raises(NotImplementedError, match=f"{type(noun).__name__} must define forward"):
            call(noun)
