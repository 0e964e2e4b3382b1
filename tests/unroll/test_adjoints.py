"""Adjoints: the same gradients as backpropagation, or the approximation that they claim, from less memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from problems import Affine, LeastSquares, least_squares_prox, problem
from storages import Peak
from torch import Tensor, nn

import unroll

EXACT = unroll.Tolerance(rtol=1e-14, atol=1e-14)
FORWARD = unroll.ForwardBackward(tau=None)
SCHEMES: dict[str, tuple[bool, unroll.Scheme]] = {
    "forward-backward": (False, FORWARD),
    "backtracking": (False, unroll.Backtracking()),
    "nesterov": (False, unroll.Nesterov(FORWARD)),
    "nesterov, restart": (False, unroll.Nesterov(FORWARD, restart=True)),
    "anderson": (False, unroll.Anderson(FORWARD, memory=2)),
    "half-quadratic": (True, unroll.HalfQuadraticSplitting()),
    "douglas-rachford": (True, unroll.DouglasRachford(1.2)),
    "admm": (True, unroll.ADMM(1.2)),
    "anderson around admm": (True, unroll.Anderson(unroll.ADMM())),
    "chambolle-pock": (True, unroll.ChambollePock(lambda x: 2 * x, lambda u: 2 * u, sigma=1.0)),
}


def build(proximal: bool, scheme: unroll.Scheme, step: float | Tensor) -> unroll.Unrolled:
    update = unroll.ProximalStep(least_squares_prox, step) if proximal else unroll.GradientStep(LeastSquares(), step)
    return unroll.Unrolled(update, steps=5, scheme=scheme)


def leaves() -> list[Tensor]:
    """Return x0, A, y, a step size and a threshold to be differentiated."""
    numbers = (torch.tensor(v, dtype=torch.float64) for v in (0.04, 0.5))
    return [leaf.clone().requires_grad_() for leaf in (*(problem()[i] for i in (2, 0, 1)), *numbers)]


@pytest.mark.parametrize(("proximal", "scheme"), SCHEMES.values(), ids=list(SCHEMES))
@pytest.mark.parametrize("adjoint", [unroll.Backprop(), unroll.Checkpointed()], ids=["backprop", "checkpointed"])
def test_gradients_of_every_scheme_are_those_of_finite_differences(
    proximal: bool, scheme: unroll.Scheme, adjoint: unroll.Adjoint
) -> None:
    def run(x0: Tensor, a: Tensor, y: Tensor, step: Tensor, threshold: Tensor) -> Tensor:
        solver, soft = build(proximal, scheme, step), unroll.SoftThreshold(threshold)
        return solver(x0, (a, y), projector=soft, adjoint=adjoint).x  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(run, leaves(), fast_mode=True)


class Learned(unroll.LearnedUpdate):
    """A contraction x -> x - g(x) with weights to be learned."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n, n, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.mul_(0.5)

    def forward(self, x: Tensor, data: Any, t: int) -> Tensor:
        return x - 0.9 * torch.tanh(self.linear(x) + data)


ADJOINTS = [
    unroll.Backprop(),
    unroll.Checkpointed(),
    unroll.Checkpointed(every=1),
    unroll.Checkpointed(every=3),
    unroll.Checkpointed(every=100),
    unroll.Truncated(100),
]


@pytest.mark.parametrize(("proximal", "scheme"), SCHEMES.values(), ids=list(SCHEMES))
@pytest.mark.parametrize("until", [None, unroll.Tolerance(rtol=0.1)], ids=["all steps", "until"])
def test_exact_adjoints_agree_bit_by_bit(proximal: bool, scheme: unroll.Scheme, until: Any) -> None:
    results: list[tuple[Tensor, ...]] = []
    for adjoint in ADJOINTS:
        x0, a, y, step, _ = leaves()
        solver = build(proximal, scheme, step)
        solution = solver(x0, (a, y), projector=unroll.SoftThreshold(0.3), adjoint=adjoint, steps=7, until=until)
        gradients = torch.autograd.grad(solution.x.square().sum(), [x0, a, y, step])
        if until is not None:
            assert solution.status.steps == results[0][5] if results else solution.status.steps < 8
            gradients = (*gradients, torch.tensor(solution.status.steps))
        results.append((solution.x.detach(), *gradients))
        for one, other in zip(results[0], results[-1], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    "adjoint", [*ADJOINTS, unroll.Truncated(2), unroll.JacobianFree(), unroll.Implicit()], ids=lambda a: str(a)[:25]
)
@pytest.mark.parametrize("until", [None, unroll.Tolerance(rtol=1e-9)], ids=["all steps", "until"])
def test_iterates_trace_and_status_do_not_depend_on_the_adjoint(adjoint: unroll.Adjoint, until: Any) -> None:
    a, y, x0 = problem()
    data = (a, y.requires_grad_())
    for proximal, scheme in (SCHEMES["forward-backward"], SCHEMES["anderson"], SCHEMES["douglas-rachford"]):
        solver, times = build(proximal, scheme, 1.0 if proximal else 0.1), []

        def probe(x: Tensor, t: int, times: list[int] = times) -> Tensor:
            times.append(t)
            return x

        options = {"until": until, "probe": probe, "projector": unroll.SoftThreshold(2.0), "steps": 400}
        expected = solver(x0, data, **options)
        found = solver(x0, data, adjoint=adjoint, **options)
        assert times == 2 * list(range(len(expected.trace)))
        assert torch.equal(found.x, expected.x)
        assert found.x.requires_grad
        assert all(torch.equal(one, other) for one, other in zip(found.trace, expected.trace, strict=True))
        assert found.trace[-1].requires_grad
        with torch.no_grad():
            assert torch.equal(solver(x0, data, adjoint=adjoint, **options).x, expected.x)
        if until is not None:
            assert found.status.steps == expected.status.steps == len(found.trace) - 1 < 400
            assert torch.equal(found.status.residual, expected.status.residual)


def measure(run: Callable[[], Any]) -> int:
    with Peak() as memory:
        run()
    return memory.peak


@pytest.mark.parametrize("scheme", [FORWARD, unroll.Nesterov(FORWARD)])
def test_checkpointing_takes_memory_as_the_square_root_of_the_steps(scheme: unroll.Scheme) -> None:
    generator = torch.Generator().manual_seed(0)
    a, y = torch.randn(8, 8, generator=generator), torch.randn(500, 8, generator=generator)
    step = nn.Parameter(torch.tensor(0.01))
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), step), steps=0, scheme=scheme)
    soft = unroll.SoftThreshold(0.1)

    def peak(adjoint: unroll.Adjoint, steps: int) -> int:
        return measure(
            lambda: solver(0 * y, (a, y), steps=steps, adjoint=adjoint, projector=soft).x.square().sum().backward()
        )

    few, many = peak(unroll.Checkpointed(), 49), peak(unroll.Checkpointed(), 196)
    assert many < 2.2 * few
    assert many < 0.125 * peak(unroll.Backprop(), 196)
    assert many < 0.7 * peak(unroll.Checkpointed(every=1), 196)


def test_checkpointing_takes_one_more_forward_pass_even_of_steps_with_gradients_of_their_own() -> None:
    calls = []

    class Counted(LeastSquares):
        def forward(self, x: Tensor, data: tuple[Tensor, Tensor]) -> Tensor:
            calls.append(1)
            return super().forward(x, data)

    x0, a, y, step, _ = leaves()
    solver = unroll.Unrolled(unroll.GradientStep(Counted(), step), steps=12)
    for every in (1, 4, 12):
        calls.clear()
        x = solver(x0, (a, y), adjoint=unroll.Checkpointed(every)).x
        assert len(calls) == 12
        x.sum().backward()
        assert len(calls) == 24
    with pytest.raises(ValueError, match="every must be at least 1"):
        unroll.Checkpointed(0)


def test_checkpointing_can_be_differentiated_twice() -> None:
    results = []
    for adjoint in (unroll.Backprop(), unroll.Checkpointed()):
        x0, a, y, step, _ = leaves()
        solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), step), steps=5)
        x = solver(x0, (a, y), adjoint=adjoint).x
        (first,) = torch.autograd.grad(x.square().sum(), step, create_graph=True)
        results.append(torch.autograd.grad(first, [x0, a, step]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


PROJECTORS: dict[str, unroll.Operator | None] = {
    "none": None,
    "box": unroll.Box(-0.1, 0.2),
    "soft threshold": unroll.SoftThreshold(0.5),
    "subspace": unroll.Subspace(torch.linalg.qr(problem()[0][:5, :2]).Q),
}


@pytest.mark.parametrize("projector", PROJECTORS.values(), ids=list(PROJECTORS))
@pytest.mark.parametrize(("proximal", "scheme"), SCHEMES.values(), ids=list(SCHEMES))
def test_implicit_gradients_are_those_of_the_unrolled_iterations(
    proximal: bool, scheme: unroll.Scheme, projector: unroll.Operator | None
) -> None:
    results = []
    until = unroll.Tolerance(rtol=1e-11)
    for one, adjoint in ((scheme.plain, unroll.Backprop()), (scheme, unroll.Implicit(tol=1e-12))):
        x0, a, y, step, _ = leaves()
        solver = build(proximal, one, 5 * step if proximal else step)
        x = solver(x0, (a, y), projector=projector, adjoint=adjoint, steps=1500, until=until).x
        results.append((x, *torch.autograd.grad((x - 1).pow(3).sum(), [a, y])))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)
    assert bool(results[0][1].any())


@pytest.mark.parametrize("solver", [unroll.gmres, unroll.conjugate_gradient])
def test_implicit_gradients_of_least_squares_are_its_pseudo_inverse(solver: Any) -> None:
    a, y, x0 = problem()
    y.requires_grad_()
    descent = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=3000)
    x = descent(x0, (a, y), adjoint=unroll.Implicit(solver=solver, tol=1e-12)).x
    weights = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((weights * x).sum(), y)
    torch.testing.assert_close(gradient, weights @ torch.linalg.pinv(a))


def test_implicit_gradients_of_a_learned_update_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    solver = unroll.Unrolled(Learned(3), steps=300)
    names = [name for name, _ in solver.named_parameters()]
    options = {"until": EXACT, "adjoint": unroll.Implicit(tol=1e-13), "projector": unroll.SoftThreshold(0.05)}
    x0 = torch.zeros(2, 3, dtype=torch.float64)

    def run(data: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(solver, state, (x0, data), options).x  # type: ignore[no-any-return]

    inputs = [torch.randn(2, 3, dtype=torch.float64), *(p.detach() for p in solver.parameters())]
    assert torch.autograd.gradcheck(run, [leaf.requires_grad_() for leaf in inputs])


def test_implicit_gradients_of_complex_signals() -> None:
    generator = torch.Generator().manual_seed(0)
    a, y = (torch.randn(*s, dtype=torch.complex128, generator=generator) for s in ((8, 3), (2, 8)))
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=200, scheme=unroll.Anderson())
    x0 = torch.zeros(2, 3, dtype=torch.complex128)

    def run(a: Tensor, y: Tensor) -> Tensor:
        options = {"projector": unroll.SoftThreshold(0.05), "adjoint": unroll.Implicit(tol=1e-12), "until": EXACT}
        return solver(x0, (a, y), **options).x  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(run, [a.requires_grad_(), y.requires_grad_()], atol=1e-5, fast_mode=True)


def test_implicit_differentiation_takes_the_memory_of_a_step() -> None:
    generator = torch.Generator().manual_seed(0)
    a, y = torch.randn(60, 50, generator=generator), torch.randn(40, 60, generator=generator)
    step, x0 = nn.Parameter(torch.tensor(0.004)), torch.zeros(40, 50)
    solver = unroll.Unrolled(unroll.GradientStep(LeastSquares(), step), steps=500)
    soft = unroll.SoftThreshold(nn.Parameter(torch.tensor(0.02)))
    gradients = []

    def run(adjoint: unroll.Adjoint) -> None:
        x = solver(x0, (a, y), projector=soft, adjoint=adjoint).x
        gradients.append(torch.autograd.grad(x.square().sum(), soft.threshold))

    implicit = measure(lambda: run(unroll.Implicit()))
    assert implicit < 0.05 * measure(lambda: run(unroll.Backprop()))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=0)


def test_implicit_differentiation_says_what_it_cannot_do() -> None:
    a, y, x0 = problem()
    y.requires_grad_()
    for adjoint in (unroll.Implicit(), unroll.JacobianFree()):
        name = type(adjoint).__name__
        scheduled = unroll.ProximalStep(least_squares_prox, lambda t: 1 / (t + 1))
        for untied in (unroll.PerStep([Affine(5).double()]), unroll.Scaled(scheduled, 0.5)):
            with pytest.raises(
                ValueError, match=f"{name} differentiates a fixed point, and {type(untied).__name__} is"
            ):
                unroll.Unrolled(untied, steps=1)(x0, (a, y), adjoint=adjoint)
        descent = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=5)
        with pytest.raises(ValueError, match=rf"{name} .* sample 0 still moves by .* in step 5, more than Tolerance\("):
            descent(x0, (a, y), adjoint=adjoint)
        with pytest.raises(ValueError, match=r"still moves by .* Tolerance\(rtol=1e-12"):
            descent(x0, (a, y), adjoint=adjoint, steps=40, until=unroll.Tolerance(rtol=1e-12))
        with pytest.raises(ValueError, match="ask for steps"):
            descent(x0, (a, y), adjoint=adjoint, steps=0)
        assert not descent(x0, (a, y.detach()), adjoint=adjoint, steps=2000).x.requires_grad
    solution = descent(x0, (a, y), adjoint=unroll.Implicit(max_iter=2, tol=1e-9), steps=2000)
    with pytest.raises(RuntimeError, match=r"linear system of Implicit was solved to .* max_iter = 2"):
        solution.x.sum().backward()
    torch.manual_seed(0)
    adjoint = unroll.Implicit(solver=unroll.conjugate_gradient)
    solution = unroll.Unrolled(Learned(5), steps=200)(x0, 0.0, adjoint=adjoint)
    with pytest.raises(RuntimeError, match="take gmres if I - J is not symmetric"):
        solution.x.sum().backward()
    twice = descent(x0, (a, y), adjoint=unroll.Implicit(), steps=2000).x
    (gradient,) = torch.autograd.grad(twice.square().sum(), y, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_truncated_backpropagation_is_that_of_the_last_steps() -> None:
    torch.manual_seed(0)
    update, data = Learned(4), torch.randn(2, 4, dtype=torch.float64)
    x0 = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    solver = unroll.Unrolled(update, steps=40)
    parameters = list(update.parameters())

    def gradient(**options: Any) -> Tensor:
        x = solver(x0, data, **options).x
        return torch.cat([g.flatten() for g in torch.autograd.grad(x.square().sum(), parameters)])

    exact = gradient()
    errors = []
    for k in (1, 2, 4, 8):
        found = gradient(adjoint=unroll.Truncated(k))
        x = solver(x0, data, steps=40 - k).x.detach()
        for t in range(40 - k, 40):
            x = x - update(x, data, t)
        by_hand = torch.autograd.grad(x.square().sum(), parameters)
        assert torch.equal(found, torch.cat([g.flatten() for g in by_hand]))
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[0] > 1e-2
    assert all(later < 0.6 * earlier for earlier, later in itertools.pairwise(errors))
    assert torch.equal(gradient(adjoint=unroll.JacobianFree()), gradient(adjoint=unroll.Truncated(1)))
    x = solver(x0, data, adjoint=unroll.Truncated(3)).x
    assert torch.autograd.grad(x.sum(), x0, allow_unused=True) == (None,)
    with pytest.raises(ValueError, match="at least 1"):
        unroll.Truncated(0)


def test_jacobian_free_backpropagation_takes_out_the_inverse() -> None:
    a, y, x0 = problem()
    y.requires_grad_()
    scheme = unroll.Anderson()
    descent = unroll.Unrolled(unroll.GradientStep(LeastSquares(), 0.05), steps=60, scheme=scheme)
    gradient = {}
    for adjoint in (unroll.JacobianFree(), unroll.Implicit(tol=1e-12)):
        x = descent(x0, (a, y), adjoint=adjoint).x
        gradient[type(adjoint)] = torch.autograd.grad(x.sum(), y)[0]
    # The step is x - 0.05 A^T (A x - y): its derivative in y is 0.05 A^T, whatever the acceleration.
    torch.testing.assert_close(gradient[unroll.JacobianFree], 0.05 * torch.ones_like(x) @ a.T)
    torch.testing.assert_close(gradient[unroll.Implicit], torch.ones_like(x) @ torch.linalg.pinv(a))


@pytest.mark.parametrize("n", [1, 12, 40])
def test_krylov_methods_solve_dense_systems(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    matrix = torch.eye(n, dtype=torch.float64) + torch.randn(n, n, dtype=torch.float64, generator=generator) / (
        2 * n**0.5
    )
    b = torch.randn(n, dtype=torch.float64, generator=generator)
    for solver, dense in ((unroll.gmres, matrix), (unroll.conjugate_gradient, matrix @ matrix.T)):
        x = solver(lambda v, dense=dense: dense @ v, b, 1e-12, 2000)  # type: ignore[misc]
        torch.testing.assert_close(dense @ x, b, rtol=0, atol=1e-9)
        assert not solver(lambda v, dense=dense: dense @ v, 0 * b, 1e-12, 100).any()  # type: ignore[misc]
        assert float((dense @ solver(lambda v: dense @ v, b, 1e-1, 2000) - b).norm()) < 0.1 * float(b.norm())  # noqa: B023
    restarted = unroll.gmres(lambda v: (matrix @ matrix.T) @ v, b, 1e-8, 100_000, restart=max(n // 2, 1))
    torch.testing.assert_close(matrix @ matrix.T @ restarted, b, rtol=0, atol=1e-6)
    counted = []
    unroll.gmres(lambda v: counted.append(1) or matrix @ v, b, 1e-15, 7)  # type: ignore[func-returns-value]
    assert len(counted) <= 8
