"""Schemes: minima known from elsewhere, loops written by hand, and every option changes the iterates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from numpy.typing import NDArray
from problems import Affine, LeastSquares, gradient_steps, least_squares_prox, problem
from torch import Tensor, nn

import unroll

WEIGHT = 0.8


def lasso(a: Tensor, y: Tensor, weight: float) -> Tensor:
    """Return argmin_x 1/2 ||A x - y||^2 + weight ||x||_1 for each row of y, by coordinate descent in numpy."""
    matrix, rows = a.numpy(), []
    for target in y.numpy():
        x: NDArray[np.float64] = np.zeros(matrix.shape[1])
        for _ in range(2000):
            for j, column in enumerate(matrix.T):
                pull = column @ (target - matrix @ x + column * x[j])
                x[j] = np.sign(pull) * max(abs(pull) - weight, 0) / (column @ column)
        rows.append(x)
    return torch.from_numpy(np.stack(rows))


def proximal_steps(step: float = 0.2) -> unroll.ProximalStep:
    return unroll.ProximalStep(least_squares_prox, step)


def itself(x: Tensor) -> Tensor:
    return x


FORWARD = unroll.ForwardBackward(tau=None)
DUAL = unroll.ChambollePock(itself, itself, sigma=4.0)
LASSO: dict[str, tuple[unroll.LearnedUpdate, unroll.Scheme, int]] = {
    "forward-backward": (gradient_steps(), FORWARD, 3000),
    "backtracking": (gradient_steps(10.0), unroll.Backtracking(), 2000),
    "fista": (gradient_steps(), unroll.Nesterov(FORWARD), 3000),
    "fista with restart": (gradient_steps(), unroll.Nesterov(FORWARD, restart=True), 500),
    "accelerated backtracking": (gradient_steps(10.0), unroll.Nesterov(unroll.Backtracking(), restart=True), 500),
    "anderson": (gradient_steps(), unroll.Anderson(FORWARD), 200),
    "douglas-rachford": (proximal_steps(), unroll.DouglasRachford(), 600),
    "douglas-rachford, relaxed": (proximal_steps(), unroll.DouglasRachford(1.6), 600),
    "admm": (proximal_steps(), unroll.ADMM(), 600),
    "admm, relaxed": (proximal_steps(), unroll.ADMM(1.6), 600),
    "fast admm": (proximal_steps(), unroll.Nesterov(unroll.ADMM(), restart=True), 600),
    "anderson around admm": (proximal_steps(), unroll.Anderson(unroll.ADMM()), 200),
    "chambolle-pock": (proximal_steps(), DUAL, 1000),
}


@pytest.mark.parametrize(("update", "scheme", "steps"), LASSO.values(), ids=list(LASSO))
def test_schemes_solve_the_lasso(update: unroll.LearnedUpdate, scheme: unroll.Scheme, steps: int) -> None:
    a, y, x0 = problem()
    expected = lasso(a, y, WEIGHT)
    assert 0 < int((expected == 0).sum()) < expected.numel()
    solver = unroll.Unrolled(update, steps=steps, scheme=scheme)
    with torch.no_grad():
        x = solver(x0, (a, y), projector=unroll.SoftThreshold(WEIGHT)).x
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("update", "scheme", "steps"), LASSO.values(), ids=list(LASSO))
def test_batches_are_their_samples(update: unroll.LearnedUpdate, scheme: unroll.Scheme, steps: int) -> None:
    a, y, x0 = problem()
    solver = unroll.Unrolled(update, steps=6, scheme=scheme)
    y = y * torch.tensor([[1.0], [10.0], [0.1]])
    together = solver(x0, (a, y), projector=unroll.SoftThreshold(WEIGHT)).x
    alone = [solver(x0[i], (a, y[i]), projector=unroll.SoftThreshold(WEIGHT)).x for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-7, atol=1e-9)


def test_half_quadratic_splitting_solves_its_own_problem_and_with_a_schedule_the_lasso() -> None:
    a, y, x0 = problem()
    tau = 0.5
    solver = unroll.Unrolled(proximal_steps(tau), steps=500, scheme=unroll.HalfQuadraticSplitting())
    x = solver(x0, (a, y), projector=unroll.SoftThreshold(WEIGHT)).x
    # The Moreau envelope of 1/2 ||A x - y||^2 is 1/2 (A x - y)^T (I + tau A A^T)^-1 (A x - y).
    values, vectors = torch.linalg.eigh(torch.eye(8, dtype=a.dtype) + tau * a @ a.T)
    root = vectors @ torch.diag(values**-0.5) @ vectors.T
    torch.testing.assert_close(x, lasso(root @ a, y @ root, WEIGHT), rtol=0, atol=1e-8)
    exact = lasso(a, y, WEIGHT)
    assert float((x - exact).abs().max()) > 0.05
    falling = unroll.ProximalStep(least_squares_prox, lambda t: 1 / (t + 1))
    solver = unroll.Unrolled(falling, steps=3000, scheme=unroll.HalfQuadraticSplitting())
    x = solver(x0, (a, y), projector=unroll.SoftThreshold(WEIGHT)).x
    torch.testing.assert_close(x, exact, rtol=0, atol=2e-3)


def forward_differences(x: Tensor) -> Tensor:
    return x.diff(dim=-1)


def their_adjoint(u: Tensor) -> Tensor:
    return -nn.functional.pad(u, (1, 1)).diff(dim=-1)


@pytest.mark.parametrize("acceleration", [itself, unroll.Anderson])
def test_chambolle_pock_denoises_by_total_variation(acceleration: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    jumps = (torch.arange(20) // 5).double()
    y = jumps + 0.3 * torch.randn(2, 20, dtype=torch.float64, generator=generator)
    weight, tau = 0.4, 0.5
    update = unroll.ProximalStep(lambda v, data, step: (v + step * data) / (1 + step), tau)
    scheme = unroll.ChambollePock(forward_differences, their_adjoint, sigma=0.5)
    solver = unroll.Unrolled(update, steps=3000, scheme=acceleration(scheme))
    x = solver(torch.zeros_like(y), y, projector=unroll.SoftThreshold(weight)).x
    # The dual: min ||y - D^T u|| over |u| <= weight, and x = y - D^T u.
    transposed = np.diff(np.eye(20), axis=0).T
    for found, target in zip(x, y.numpy(), strict=True):
        u = scipy.optimize.lsq_linear(transposed, target, (-weight, weight), method="bvls", tol=1e-14).x
        torch.testing.assert_close(found, torch.from_numpy(target - transposed @ u), rtol=0, atol=1e-7)
    assert int((x.diff(dim=-1).abs() < 1e-7).sum()) > 10


def test_splittings_are_the_loops_of_their_sources() -> None:
    a, y, x0 = problem()
    soft, tau = unroll.SoftThreshold(WEIGHT), 0.2
    x, z = x0, x0
    for _ in range(5):
        u = least_squares_prox(z, (a, y), tau)
        x = soft(2 * u - z, tau)
        z = z + 1.5 * (x - u)
    solver = unroll.Unrolled(proximal_steps(tau), steps=5, scheme=unroll.DouglasRachford(1.5))
    torch.testing.assert_close(solver(x0, (a, y), projector=soft).x, x)
    # Boyd et al., section 6.4 with rho = 1 / tau.
    x, w, rho = x0, torch.zeros_like(x0), 1 / tau
    for _ in range(5):
        u = torch.linalg.solve(a.T @ a + rho * torch.eye(5, dtype=a.dtype), (y @ a + rho * (x - w)).T).T
        v = 1.5 * u + (1 - 1.5) * x
        x = torch.sgn(v + w) * torch.relu((v + w).abs() - WEIGHT / rho)
        w = w + v - x
    solver = unroll.Unrolled(proximal_steps(tau), steps=5, scheme=unroll.ADMM(1.5))
    torch.testing.assert_close(solver(x0, (a, y), projector=soft).x, x)
    # Chambolle and Pock, algorithm 1: the operator of the conjugate of WEIGHT ||.||_1 is a clamp.
    x, u = x0, torch.zeros(3, 4, dtype=a.dtype)
    for _ in range(5):
        last, x = x, least_squares_prox(x - tau * their_adjoint(u), (a, y), tau)
        u = (u + 0.7 * forward_differences(2 * x - last)).clamp(-WEIGHT, WEIGHT)
    scheme = unroll.ChambollePock(forward_differences, their_adjoint, sigma=0.7)
    torch.testing.assert_close(
        unroll.Unrolled(proximal_steps(tau), steps=5, scheme=scheme)(x0, (a, y), projector=soft).x, x
    )


DIFFERENCES = (forward_differences, their_adjoint)
OPTIONS: dict[str, tuple[unroll.LearnedUpdate, list[unroll.Scheme]]] = {
    "gradient steps": (
        gradient_steps(),
        [
            unroll.ForwardBackward(),
            FORWARD,
            unroll.Nesterov(FORWARD),
            unroll.Nesterov(FORWARD, restart=True),
            unroll.Nesterov(),
            unroll.Anderson(FORWARD),
            unroll.Anderson(FORWARD, memory=2),
            unroll.Anderson(FORWARD, restart=False),
            unroll.Anderson(FORWARD, mixing=0.5),
            unroll.Anderson(FORWARD, ridge=1e-2),
            unroll.Anderson(),
        ],
    ),
    "long gradient steps": (
        gradient_steps(1.0),
        [unroll.Backtracking(), unroll.Backtracking(0.8), unroll.Nesterov(unroll.Backtracking())],
    ),
    "proximal steps": (
        proximal_steps(),
        [
            unroll.ForwardBackward(),
            unroll.HalfQuadraticSplitting(),
            unroll.DouglasRachford(),
            unroll.DouglasRachford(1.5),
            unroll.ADMM(1.5),
            unroll.Nesterov(unroll.ADMM(1.5)),
            unroll.ChambollePock(*DIFFERENCES, sigma=1.0),
            unroll.ChambollePock(*DIFFERENCES, sigma=0.5),
            unroll.ChambollePock(*DIFFERENCES, sigma=1.0, extrapolation=0.0),
        ],
    ),
}


@pytest.mark.parametrize(("update", "schemes"), OPTIONS.values(), ids=list(OPTIONS))
def test_every_scheme_and_option_changes_the_iterates(
    update: unroll.LearnedUpdate, schemes: list[unroll.Scheme]
) -> None:
    a, y, x0 = problem()
    soft = unroll.SoftThreshold(0.05)
    solvers = [unroll.Unrolled(update, steps=40, scheme=scheme) for scheme in schemes]
    results = [torch.stack(s(x0, (a, y), projector=soft, probe=lambda x, t: x).trace) for s in solvers]
    for i, one in enumerate(results):
        for other, scheme in zip(results[:i], schemes, strict=False):
            assert float((one - other).abs().max()) > 1e-4, (schemes[i], scheme)


class Watch(unroll.Identity):
    """Remembers the tau that it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        self.seen.append((t, float(torch.as_tensor(tau).detach())))
        return v


def test_the_operator_is_given_the_step_of_the_update_where_the_scheme_says_so() -> None:
    a, y, x0 = problem()
    learned = nn.Parameter(torch.tensor(0.25, dtype=torch.float64))
    per_step = unroll.PerStep([gradient_steps(0.125), unroll.GradientStep(LeastSquares(), learned)])
    falling = unroll.ProximalStep(least_squares_prox, lambda t: 1 / (t + 1))
    cases: list[tuple[unroll.LearnedUpdate, unroll.Scheme, list[float]]] = [
        (per_step, unroll.ForwardBackward(), [1.0, 1.0]),
        (per_step, unroll.ForwardBackward(tau=0.5), [0.5, 0.5]),
        (per_step, FORWARD, [0.125, 0.25]),
        (unroll.Scaled(per_step, 0.5), FORWARD, [0.0625, 0.125]),
        (Affine(5).double(), FORWARD, [1.0, 1.0]),
        (falling, unroll.HalfQuadraticSplitting(), [1.0, 0.5]),
        (falling, unroll.DouglasRachford(), [1.0, 0.5]),
        (falling, unroll.ADMM(), [1.0, 0.5]),
        (falling, unroll.ChambollePock(itself, itself, sigma=4.0), [0.25, 0.25]),
        (gradient_steps(0.01), unroll.Backtracking(), [0.01, 0.01]),
    ]
    for update, scheme, expected in cases:
        watch = Watch()
        batch = (x0[:1], (a, y[:1]))
        unroll.Unrolled(update, steps=2, scheme=scheme)(*batch, projector=watch)
        assert sorted(set(watch.seen)) == list(enumerate(expected)), scheme


def test_a_proximal_step_is_a_gradient_step_of_the_moreau_envelope() -> None:
    a, y, x0 = problem()
    x, tau = x0.requires_grad_(), 0.3
    u = least_squares_prox(x, (a, y), tau)
    envelope = LeastSquares()(u, (a, y)).sum() + (u - x).square().sum() / (2 * tau)
    (gradient,) = torch.autograd.grad(envelope, x)
    torch.testing.assert_close(proximal_steps(tau)(x, (a, y), 0), tau * gradient)
    assert not torch.allclose(proximal_steps(0.4)(x, (a, y), 0), tau * gradient)


def test_proximal_steps_take_operators_parameters_and_schedules() -> None:
    x0 = torch.tensor([[3.0, -0.2, 1.0]])
    threshold, tau = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(2.0))
    update = unroll.ProximalStep(unroll.SoftThreshold(threshold), tau)
    assert set(update.state_dict()) == {"prox.threshold", "step_size"}
    assert torch.equal(unroll.Unrolled(update, steps=1)(x0).x, torch.tensor([[2.0, 0.0, 0.0]]))
    assert update.tied
    buffered = unroll.ProximalStep(unroll.SoftThreshold(0.5), torch.tensor(2.0))
    assert torch.equal(unroll.Unrolled(buffered, steps=1)(x0).x, torch.tensor([[2.0, 0.0, 0.0]]))
    assert not buffered.state_dict()
    scheduled = unroll.ProximalStep(unroll.SoftThreshold(0.5), lambda t: 2.0 * t)
    assert torch.equal(unroll.Unrolled(scheduled, steps=2)(x0).x, torch.tensor([[2.0, 0.0, 0.0]]))
    assert torch.equal(unroll.Unrolled(scheduled, steps=1)(x0).x, x0)
    assert not scheduled.tied
    assert not unroll.Scaled(scheduled, 0.5).tied


@pytest.mark.parametrize(
    "scheme", [unroll.Nesterov(restart=True), unroll.Anderson(), unroll.Backtracking(), unroll.Nesterov()]
)
def test_complex_least_squares(scheme: unroll.Scheme) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(8, 5, dtype=torch.complex128, generator=generator)
    y = torch.randn(2, 8, dtype=torch.complex128, generator=generator)
    solver = unroll.Unrolled(gradient_steps(), steps=1500, scheme=scheme)
    with torch.no_grad():
        x = solver(torch.zeros(2, 5, dtype=torch.complex128), (a, y)).x
    torch.testing.assert_close(x, torch.linalg.lstsq(a, y.T).solution.T, rtol=0, atol=1e-9)


SPLITTINGS = [unroll.DouglasRachford(), unroll.ADMM(1.5), DUAL, unroll.HalfQuadraticSplitting()]
ACCELERATIONS: list[unroll.Scheme] = [unroll.Nesterov(), unroll.Nesterov(restart=True), unroll.Anderson()]


@pytest.mark.parametrize("scheme", [*SPLITTINGS, *ACCELERATIONS])
def test_vmap_maps_the_schemes(scheme: unroll.Scheme) -> None:
    a, y, x0 = problem()
    solver = unroll.Unrolled(proximal_steps(), steps=4, scheme=scheme)
    soft = unroll.SoftThreshold(0.1)

    def one(x: Tensor, z: Tensor) -> Tensor:
        return solver(x[None], (a, z[None]), projector=soft).x[0]  # type: ignore[no-any-return]

    leaf = x0.clone().requires_grad_()
    together = solver(leaf, (a, y), projector=soft).x
    torch.testing.assert_close(torch.func.vmap(one)(x0, y), together, rtol=1e-6, atol=1e-8)
    mapped = torch.func.vmap(torch.func.grad(lambda x, z: one(x, z).square().sum()))(x0, y)
    (gradient,) = torch.autograd.grad(together.square().sum(), leaf)
    torch.testing.assert_close(mapped, gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scheme", [*SPLITTINGS, *ACCELERATIONS])
def test_nothing_in_the_schemes_reads_a_value_back(scheme: unroll.Scheme) -> None:
    with torch.device("meta"):
        x0, update = torch.empty(2, 3), Affine(3)
    solver = unroll.Unrolled(update, steps=3, scheme=scheme)
    assert solver(x0, projector=unroll.SoftThreshold(0.1), adjoint=unroll.Truncated(2)).x.is_meta


@pytest.mark.parametrize("scheme", [unroll.DouglasRachford(), unroll.ADMM(), *ACCELERATIONS])
def test_every_iterate_has_been_through_the_projector(scheme: unroll.Scheme) -> None:
    a, y, x0 = problem()
    solver = unroll.Unrolled(proximal_steps(), steps=6, scheme=scheme)
    trace = solver(x0, (a, y), projector=unroll.Box(0.0, 0.2), probe=lambda x, t: x).trace
    assert torch.equal(trace[0], x0)
    assert all(bool(((x >= 0) & (x <= 0.2)).all()) for x in trace[1:])
    assert len({float(x.sum()) for x in trace}) > 4


def test_a_scheme_of_ones_own_is_one_method() -> None:
    class HeavyBall(unroll.Scheme):
        """x_{t+1} = P[x_t - g_t(x_t) + 0.5 (x_t - x_{t-1})]."""

        def init(self, x0: Tensor, data: Any = None) -> tuple[Tensor, Tensor]:
            return x0, x0

        def step(self, state: Any, at: unroll.Step) -> tuple[Tensor, Tensor]:
            x, last = state
            return at.backward(at.forward(x) + 0.5 * (x - last)), x

    a, y, x0 = problem()
    solution = torch.linalg.lstsq(a, y.T).solution.T
    for scheme in (HeavyBall(), unroll.Anderson(HeavyBall())):
        x = unroll.Unrolled(gradient_steps(), steps=1500, scheme=scheme)(x0, (a, y)).x
        torch.testing.assert_close(x, solution, rtol=0, atol=1e-8)


def test_bad_schemes_are_one_line() -> None:
    x0 = torch.ones(2, 5)
    calls: list[tuple[Any, type[Exception], str]] = [
        (lambda: unroll.DouglasRachford(2.0), ValueError, "relaxation must lie between 0 and 2, got 2.0"),
        (lambda: unroll.ADMM(0.0), ValueError, "relaxation must lie between 0 and 2"),
        (lambda: unroll.ChambollePock(itself, itself, sigma=0.0), ValueError, "sigma must be above 0"),
        (lambda: unroll.Backtracking(1.0), ValueError, "shrink must lie between 0 and 1"),
        (lambda: unroll.Anderson(memory=0), ValueError, "memory must be at least 1"),
        (lambda: unroll.Anderson(mixing=0.0), ValueError, "mixing must lie between 0"),
        (lambda: unroll.Nesterov(unroll.Anderson()).init(x0), TypeError, "goes around a plain scheme, not Anderson"),
        (
            lambda: unroll.ChambollePock(forward_differences, itself, sigma=1.0).init(x0),
            ValueError,
            r"adjoint of K returned the shape \(2, 4\) for x of shape \(2, 5\)",
        ),
        (
            lambda: unroll.ChambollePock(Tensor.flatten, lambda u: u.reshape(2, 5), sigma=1.0).init(x0),
            ValueError,
            r"K made of x of shape \(2, 5\) the shape \(10,\): it must keep the batch",
        ),
    ]
    for call, kind, match in calls:
        with pytest.raises(kind, match=match):
            call()
