"""Accelerations and the search for a step: what they are by hand, and that they are worth it."""

from __future__ import annotations

import pytest
import torch
from problems import STEP, Affine, LeastSquares, gradient_steps, problem
from torch import Tensor

import unroll

WEIGHT = 0.8
FORWARD = unroll.ForwardBackward(tau=None)


def test_nesterov_is_fista_by_hand() -> None:
    a, y, x0 = problem()
    solver = unroll.Unrolled(gradient_steps(), steps=9, scheme=unroll.Nesterov(FORWARD))
    soft, x, z, k = unroll.SoftThreshold(WEIGHT), x0, x0, 1.0
    for _ in range(9):
        last, x = x, soft(z - STEP * (z @ a.T - y) @ a, STEP)
        before, k = k, (1 + (1 + 4 * k**2) ** 0.5) / 2
        z = x + (before - 1) / k * (x - last)
    torch.testing.assert_close(solver(x0, (a, y), projector=soft).x, x, rtol=1e-12, atol=1e-12)


def test_restarts_give_back_linear_convergence() -> None:
    scales = torch.logspace(0, -1.5, 12, dtype=torch.float64)
    a, x0 = torch.diag(scales), torch.ones(1, 12, dtype=torch.float64)
    target = (a, torch.zeros(1, 12, dtype=torch.float64))
    errors = {}
    for restart in (False, True):
        scheme = unroll.Nesterov(restart=restart)
        solver = unroll.Unrolled(gradient_steps(1.0), steps=600, scheme=scheme)
        errors[restart] = float(solver(x0, target).x.norm())
    plain = float(unroll.Unrolled(gradient_steps(1.0), steps=600)(x0, target).x.norm())
    assert errors[True] < 1e-3 * errors[False] < 1e-3 * plain


def test_anderson_solves_linear_systems_in_as_many_steps_as_unknowns() -> None:
    a, y, x0 = problem()
    solution = torch.linalg.lstsq(a, y.T).solution.T
    solver = unroll.Unrolled(gradient_steps(0.05), steps=7, scheme=unroll.Anderson(memory=5))
    torch.testing.assert_close(solver(x0, (a, y)).x, solution, rtol=0, atol=1e-5)
    plain = unroll.Unrolled(gradient_steps(0.05), steps=7)
    assert float((plain(x0, (a, y)).x - solution).abs().max()) > 1e-2


def test_anderson_restarts_where_kinks_lead_it_astray() -> None:
    a, y, x0 = problem()
    steps = {}
    for restart in (False, True):
        solver = unroll.Unrolled(gradient_steps(), steps=150, scheme=unroll.Anderson(FORWARD, restart=restart))
        with torch.no_grad():
            options = {"projector": unroll.SoftThreshold(WEIGHT), "until": unroll.Tolerance(rtol=1e-10)}
            steps[restart] = solver(x0, (a, y), **options).status.steps
    assert steps[True] < 60 < steps[False]


def test_anderson_stays_at_a_fixed_point_and_differentiable() -> None:
    a, y, x0 = problem()
    solution = torch.linalg.lstsq(a, y.T).solution.T
    solver = unroll.Unrolled(gradient_steps(0.05), steps=60, scheme=unroll.Anderson())
    for start in (solution, x0):
        leaf = start.clone().requires_grad_()
        x = solver(leaf, (a, y)).x
        torch.testing.assert_close(x, solution, rtol=0, atol=1e-12)
        (gradient,) = torch.autograd.grad(x.sum(), leaf)
        assert bool(gradient.isfinite().all())
    held = unroll.Unrolled(gradient_steps(0.0), steps=5, scheme=unroll.Anderson())
    leaf = x0.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(held(leaf, (a, y)).x.sum(), leaf)
    torch.testing.assert_close(gradient, torch.ones_like(x0))


def test_backtracking_descends_whatever_the_step_size() -> None:
    a, y, x0 = problem()
    soft, loss = unroll.SoftThreshold(WEIGHT), LeastSquares()

    def objective(x: Tensor, t: int) -> Tensor:
        return loss(x, (a, y)) + WEIGHT * x.abs().sum(-1)  # type: ignore[no-any-return]

    def values(scheme: unroll.Scheme) -> Tensor:
        solver = unroll.Unrolled(gradient_steps(10.0), steps=30, scheme=scheme)
        return torch.stack(solver(x0, (a, y), projector=soft, probe=objective).trace)

    assert float(values(FORWARD)[-1].min()) > 1e10
    for shrink in (0.5, 0.8):
        assert bool((values(unroll.Backtracking(shrink)).diff(dim=0) <= 1e-12).all())
    # Short enough to begin with: nothing is searched for.
    short = unroll.Unrolled(gradient_steps(0.01), steps=5, scheme=unroll.Backtracking())
    plain = unroll.Unrolled(gradient_steps(0.01), steps=5, scheme=FORWARD)
    torch.testing.assert_close(short(x0, (a, y), projector=soft).x, plain(x0, (a, y), projector=soft).x)
    with pytest.raises(ValueError, match="no step size of 3 was short enough in step 0"):
        values(unroll.Backtracking(max_trials=3))
    with pytest.raises(TypeError, match="needs a GradientStep, got Affine"):
        unroll.Unrolled(Affine(5).double(), steps=1, scheme=unroll.Backtracking())(x0)
