"""Stopping: at a tolerance, sample by sample, with a status that says how it went; and input that cannot work."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from problems import Affine, LeastSquares, least_squares_prox, problem
from torch import Tensor, nn

import unroll


class Halve(unroll.LearnedUpdate):
    """x -> x / 2 + data / 2, a contraction of factor 1/2 to ``data``; it counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        self.calls += 1
        return 0.5 * (x - data)


def test_a_tolerance_stops_at_the_first_step_within_it() -> None:
    update = Halve()
    solver = unroll.Unrolled(update, steps=100)
    x0, data = torch.zeros(2, 1, dtype=torch.float64), torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    # x_t = (1 - 2^-t) data, and the step to it is 2^-t data: 2^-t <= rtol (1 - 2^-t) at t = 10 for 1e-3.
    solution = solver(x0, data, until=unroll.Tolerance(rtol=1e-3), probe=lambda x, t: t)
    assert update.calls == 10
    assert solution.trace == tuple(range(11))
    status = solution.status
    assert status.steps == 10
    assert bool(status)
    torch.testing.assert_close(status.residual, 2.0**-10 * data[:, 0])
    assert bool(status.finite.all())
    assert str(status) == "2 of 2 samples converged in 10 steps"
    # 2^-t data <= atol: at t = 10 for the first sample and at 11 for the second, and nothing is left out.
    status = solver(x0, data, until=unroll.Tolerance(rtol=0, atol=2.0**-10)).status
    assert status.steps == 11
    assert solver(x0, data, until=unroll.Tolerance(rtol=0, atol=2.0**-10), steps=10).status.converged.tolist() == [
        True,
        False,
    ]
    assert solver(x0, data).status is None
    assert solver(x0, data, until=unroll.Tolerance(), steps=0).status.residual.tolist() == [torch.inf, torch.inf]


SCHEMES = {
    "forward-backward": (False, unroll.ForwardBackward(tau=None)),
    "nesterov": (False, unroll.Nesterov(unroll.ForwardBackward(tau=None), restart=True)),
    "anderson": (False, unroll.Anderson(unroll.ForwardBackward(tau=None))),
    "backtracking": (False, unroll.Backtracking()),
    "douglas-rachford": (True, unroll.DouglasRachford()),
    "admm": (True, unroll.ADMM()),
    "chambolle-pock": (True, unroll.ChambollePock(lambda x: x, lambda u: u, sigma=4.0)),
}


@pytest.mark.parametrize(("proximal", "scheme"), SCHEMES.values(), ids=list(SCHEMES))
def test_what_has_converged_is_the_minimum_and_a_tighter_tolerance_is_nearer(
    proximal: bool, scheme: unroll.Scheme
) -> None:
    a, y, x0 = problem()
    soft, far = unroll.SoftThreshold(0.8), []
    update = unroll.ProximalStep(least_squares_prox, 0.2) if proximal else unroll.GradientStep(LeastSquares(), 0.03)
    exact = unroll.Unrolled(update, steps=4000, scheme=scheme)(x0, (a, y), projector=soft).x
    solver = unroll.Unrolled(update, steps=4000, scheme=scheme)
    for rtol in (1e-2, 1e-5, 1e-10):
        x, _, status = solver(x0, (a, y), projector=soft, until=unroll.Tolerance(rtol=rtol))
        assert bool(status)
        far.append((status.steps, -float((x - exact).norm().detach())))
    assert far == sorted(far)
    assert far[-1][1] > -1e-7
    assert far[0][1] < -1e-4


def test_samples_have_residuals_of_their_own() -> None:
    a, y, x0 = problem()
    y = y * torch.tensor([[1.0], [1e3], [1e-3]])
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=1500)
    until = unroll.Tolerance(rtol=1e-7)
    together = solver(x0, (a, y), until=until).status
    alone = [solver(x0[i], (a, y[i]), until=until) for i in range(3)]
    assert together.steps == max(one.status.steps for one in alone)
    assert len({one.status.steps for one in alone}) > 1
    for i, one in enumerate(alone):
        assert one.status.residual.shape == (1,)
        fixed = solver(x0[i], (a, y[i]), until=unroll.Tolerance(rtol=1e-300), steps=together.steps).status
        torch.testing.assert_close(together.residual[i : i + 1], fixed.residual, rtol=1e-4, atol=1e-13)


class Explode(unroll.LearnedUpdate):
    """x -> data x^2 beyond all bounds for |x| > 1."""

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        return x - x.square()


@pytest.mark.parametrize("scheme", [unroll.ForwardBackward(), unroll.DouglasRachford(), unroll.Anderson()])
def test_samples_that_cease_to_be_finite_are_named(scheme: unroll.Scheme) -> None:
    solver = unroll.Unrolled(Explode(), steps=50, scheme=scheme)
    x0 = torch.tensor([[0.5], [1e30], [0.25]])
    solution = solver(x0, until=unroll.Tolerance(rtol=0, atol=1e-6))
    status = solution.status
    assert status.finite.tolist() == [True, False, True]
    assert status.converged.tolist() == [True, False, True]
    assert status.failed_at.tolist() == [-1, 1, -1]
    assert status.steps < 50
    assert not bool(status)
    assert str(status).endswith(
        f"2 of 3 samples converged in {status.steps} steps; sample 1 was not finite after step 1"
    )
    assert torch.equal(solution.x[::2].abs() < 1e-2, torch.ones(2, 1, dtype=torch.bool))
    for adjoint in (unroll.Backprop(), unroll.Checkpointed(), unroll.Truncated(2), unroll.Implicit()):
        with pytest.raises(ValueError, match="iterate of sample 1 is not finite after step 1: are the steps too long"):
            solver(x0, check_finite=True, adjoint=adjoint)
    with pytest.raises(ValueError, match="sample 2 is not finite before the first step: look at x0"):
        solver(torch.tensor([[0.5], [0.5], [torch.nan]]), check_finite=True)
    assert solver(x0[::2], check_finite=True).status is None
    assert not bool(solver(x0).x.isfinite().all())
    bad = solver(torch.tensor([[torch.inf]]), until=unroll.Tolerance()).status
    assert (bad.steps, bad.failed_at.tolist()) == (1, [0])


def test_implicit_differentiation_refuses_what_is_not_finite() -> None:
    weight = nn.Parameter(torch.tensor(1.0))

    class Weighted(Explode):
        def __init__(self) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
            return x - self.weight * x.square()

    with pytest.raises(ValueError, match="sample 1 still moves by nan"):
        unroll.Unrolled(Weighted(), steps=9)(torch.tensor([[0.0], [1e30]]), adjoint=unroll.Implicit())


@pytest.mark.parametrize("tolerances", [(-1.0, 0.0), (0.0, 0.0), (1e-3, -1.0), (float("nan"), 0.0)])
def test_tolerances_are_not_negative(tolerances: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="a tolerance needs rtol >= 0"):
        unroll.Tolerance(*tolerances)


def test_a_projector_keeps_shape_and_dtype() -> None:
    class Wide(unroll.Operator):
        def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
            return v.double()

    class Long(unroll.Operator):
        def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
            return torch.cat([v, v])

    x0 = torch.ones(2, 3)
    for scheme in (unroll.ForwardBackward(), unroll.ADMM(), unroll.Nesterov()):
        solver = unroll.Unrolled(Affine(3), steps=2, scheme=scheme)
        with pytest.raises(TypeError, match=r"Wide returned torch\.float64 for an iterate of torch\.float32"):
            solver(x0, projector=Wide())
        with pytest.raises(ValueError, match=r"Long returned the shape \(4, 3\) for an iterate of shape \(2, 3\)"):
            solver(x0, projector=Long())


def test_parameters_on_another_device_are_one_line() -> None:
    solver = unroll.Unrolled(Affine(3), steps=2).to("meta")
    with pytest.raises(ValueError, match=r"'update\.linear\.weight' of the solver is on meta and x0 on cpu"):
        solver(torch.ones(2, 3))

    class Added(unroll.LearnedUpdate):
        def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
            return x.to("meta")

    with pytest.raises(ValueError, match="Added returned a tensor on meta for an iterate on cpu"):
        unroll.Unrolled(Added(), steps=1)(torch.ones(2, 3))

    class Broken(Affine):
        def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
            raise RuntimeError("their own")

    with pytest.raises(RuntimeError, match="their own"):
        unroll.Unrolled(Broken(3), steps=1)(torch.ones(2, 3))


@pytest.mark.parametrize(
    "scheme", [unroll.Backtracking(0.3), unroll.Nesterov(unroll.ADMM(1.5), restart=True), unroll.Anderson(memory=3)]
)
def test_schemes_survive_copies_and_leave_the_state_dict_alone(scheme: unroll.Scheme) -> None:
    torch.manual_seed(0)
    plain = unroll.Unrolled(unroll.GradientStep(LeastSquares(), nn.Parameter(torch.tensor(0.05))), steps=4)
    solver = unroll.Unrolled(plain.update, steps=4, scheme=scheme)
    assert list(solver.state_dict()) == list(plain.state_dict())
    a, y, x0 = (part.float() for part in problem())
    expected = solver(x0, (a, y), projector=unroll.SoftThreshold(0.1)).x
    for twin in (copy.deepcopy(solver), pickle.loads(pickle.dumps(solver))):
        assert twin.scheme == scheme
        assert torch.equal(twin(x0, (a, y), projector=unroll.SoftThreshold(0.1)).x, expected)
