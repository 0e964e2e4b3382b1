"""The learned recipes, against the algorithms that they begin as."""

from __future__ import annotations

import copy

import pytest
import torch
from problems import least_squares_prox
from torch import Tensor, nn

import unroll
from unroll import penalties, recipes, sets

D = torch.float64
A = torch.randn(8, 12, dtype=D, generator=torch.Generator().manual_seed(0))
Y = torch.randn(3, 8, dtype=D, generator=torch.Generator().manual_seed(1))
X0 = torch.randn(3, 12, dtype=D, generator=torch.Generator().manual_seed(2))
L = float(torch.linalg.matrix_norm(A, 2)) ** 2


def measure(x: Tensor) -> Tensor:
    return x @ A.mT


def adjoint(u: Tensor) -> Tensor:
    return u @ A


def soft(v: Tensor, theta: float | Tensor) -> Tensor:
    return v.sign() * (v.abs() - theta).clamp(min=0)


def zeroed(solver: unroll.Unrolled) -> unroll.Unrolled:
    """The network of NA-ALISTA with gamma = 0.9 and theta = 0.7 mean|c| whatever it sees."""
    with torch.no_grad():
        for parameter in solver.parameters():
            parameter.zero_()
        solver.update.head[2].bias.copy_(torch.tensor([0.9, 0.7], dtype=D).expm1().log())
    return solver


class Linear(nn.Module):
    """A contraction to be learned."""

    def __init__(self, gain: float = 0.6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((12,), gain, dtype=D))

    def forward(self, v: Tensor) -> Tensor:
        return torch.tanh(self.gain) * torch.tanh(v)


class Channels(nn.Module):
    """A mixing of the channels."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.tensor(rows, dtype=D))

    def forward(self, v: Tensor) -> Tensor:
        return torch.einsum("ij,bjn->bin", self.mixing, v)


def test_alista_at_takes_smaller_thresholds_where_x_is_large():
    x, w = X0, recipes.analytic_weights(A)
    solver = recipes.alista_at(A, 4, 0.5, step_size=0.3)
    for _ in range(4):
        x = soft(x - 0.3 * (x @ A.mT - Y) @ w, (0.5 / L) / (1 + x.abs() / 0.1))
    torch.testing.assert_close(solver(X0, Y).x, x)
    plain = recipes.alista(A, 4, 0.5, step_size=0.3)
    torch.testing.assert_close(solver(0 * X0, Y, steps=1).x, plain(0 * X0, Y, steps=1).x)
    assert not torch.allclose(solver(X0, Y).x, plain(X0, Y).x)


@pytest.mark.parametrize("scale", [None, 0.2])
def test_na_alista_with_a_network_of_zeros_is_alista_with_thresholds_in_units_of_the_step(scale):
    solver = zeroed(recipes.na_alista(A, 5, hidden=4, scale=scale))
    w, x = recipes.analytic_weights(A), X0
    for _ in range(5):
        c = (x @ A.mT - Y) @ w
        theta = 0.7 * c.abs().mean(-1, keepdim=True)
        x = soft(x - 0.9 * c, theta if scale is None else theta / (1 + x.abs() / scale))
    torch.testing.assert_close(solver(X0, Y).x, x)
    assert solver(X0, Y, steps=7).x.isfinite().all()


def test_na_alista_remembers_and_selects():
    torch.manual_seed(0)
    solver = recipes.na_alista(A, 3, hidden=4)
    two = solver(X0, Y, steps=2).x
    again = solver(solver(X0, Y, steps=1).x, Y, steps=1).x
    assert not torch.allclose(two, again)
    selecting = recipes.na_alista(A, 3, hidden=4, selection=recipes.Selection(0.2, 0.5))
    selecting.load_state_dict(solver.state_dict())
    assert not torch.allclose(selecting(X0, Y).x, solver(X0, Y).x)
    # Every sample by itself.
    torch.testing.assert_close(solver(X0[1:2], Y[1:2]).x, solver(X0, Y).x[1:2])
    # A residual of 0 has no logarithm.
    torch.testing.assert_close(solver(0 * X0, 0 * Y).x, 0 * X0)


def test_the_prox_of_least_squares_is_its_minimum():
    for tau in (0.3, 2.0):
        torch.testing.assert_close(recipes.LeastSquaresProx(A)(X0, Y, tau), least_squares_prox(X0, (A, Y), tau))
    tau = torch.tensor([[0.1], [1.0], [5.0]], dtype=D)
    rows = [recipes.LeastSquaresProx(A)(X0[i : i + 1], Y[i : i + 1], float(tau[i])) for i in range(3)]
    torch.testing.assert_close(recipes.LeastSquaresProx(A)(X0, Y, tau), torch.cat(rows))


@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_learned_admm_begins_as_admm(relaxation):
    prox = recipes.LeastSquaresProx(A)
    learned = recipes.learned_admm(prox, 9, 0.2, tau=0.5, relaxation=relaxation).double()
    plain = unroll.Unrolled(unroll.ProximalStep(prox, 0.5), steps=9, scheme=unroll.ADMM(relaxation))
    expected = plain(X0, Y, projector=unroll.SoftThreshold(0.4)).x
    torch.testing.assert_close(learned(X0, Y).x, expected, rtol=1e-5, atol=1e-6)
    # Without thresholds, the set or the penalty is that of the call.
    free = recipes.learned_admm(prox, 9, None, tau=0.5, relaxation=relaxation).double()
    torch.testing.assert_close(free(X0, Y, projector=unroll.SoftThreshold(0.4)).x, expected, rtol=1e-5, atol=1e-6)
    assert [len(list(s.parameters())) for s in (learned, free)] == [3, 2]


def test_learned_projected_gradient_begins_as_projected_gradient():
    solver = recipes.learned_projected_gradient(measure, adjoint, [None] * 6, 0.8 / L).double()
    x = X0
    for _ in range(6):
        x = (x - 0.8 / L * (x @ A.mT - Y) @ A).clamp(min=0)
    torch.testing.assert_close(solver(X0, Y, projector=sets.NonNegative()).x, x, rtol=1e-5, atol=1e-6)
    networks = [Linear(0.5), Linear(0.7)]
    x = X0
    for network in networks:
        x = network(x - 0.8 / L * (x @ A.mT - Y) @ A)
    solver = recipes.learned_projected_gradient(measure, adjoint, networks, 0.8 / L).double()
    torch.testing.assert_close(solver(X0, Y).x, x, rtol=1e-5, atol=1e-6)


def test_learned_primal_dual_contains_chambolle_and_pock():
    tau = sigma = 0.9 / L**0.5
    weight, steps = 0.3, 12
    # u <- (u + sigma K xbar - sigma y) / (1 + sigma), x <- (x - tau K* u) / (1 + tau weight), xbar <- 2 x - x_t:
    # the prox of 1/2 ||. - y||^2 and of weight/2 ||.||^2, as what is added to the channels u1, u2 and x, xbar.
    a, b = 1 / (1 + sigma), 1 / (1 + tau * weight)
    dual = [Channels([[a - 1, 0, a * sigma, -a * sigma], [0, 0, 0, 0]]) for _ in range(steps)]
    primal = [Channels([[b - 1, 0, -b * tau], [2 * b - 1, -1, -2 * b * tau]]) for _ in range(steps)]
    solver = recipes.learned_primal_dual(measure, adjoint, dual, primal, memory=2)
    x, u, bar = X0, torch.zeros_like(Y), X0
    for _ in range(steps):
        u = a * (u + sigma * (bar @ A.mT - Y))
        new = b * (x - tau * u @ A)
        x, bar = new, 2 * new - x
    torch.testing.assert_close(solver(X0[:, None], Y[:, None]).x[:, 0], x)


def test_plug_and_play_with_the_denoiser_of_a_penalty_is_its_splitting():
    def denoise(v: Tensor, level: Tensor | float) -> Tensor:
        return soft(v, level**2)

    for scheme in (None, unroll.DouglasRachford()):
        solver = recipes.plug_and_play(recipes.LeastSquaresProx(A), tau=0.5, steps=600, scheme=scheme)
        found = solver(X0, Y, projector=penalties.Denoiser(denoise, sigma=0.3**0.5)).x
        torch.testing.assert_close(found, recipes.fista(A, 4000, 0.3)(X0, Y).x, atol=1e-6, rtol=1e-5)


def test_deep_equilibrium_has_the_gradient_of_a_long_unrolling():
    solver = recipes.deep_equilibrium(measure, adjoint, Linear(), 0.9 / L, steps=300).double()
    plain = copy.deepcopy(solver)
    plain.scheme = unroll.ForwardBackward()
    grads = []
    for one, adjoint_ in ((solver, unroll.Implicit(tol=1e-10)), (plain, unroll.Backprop())):
        y = Y.clone().requires_grad_()
        until = unroll.Tolerance(rtol=1e-11, atol=1e-12) if one is solver else None
        x = one(X0, y, until=until, adjoint=adjoint_).x
        grads.append((x, *torch.autograd.grad(x.square().sum(), [y, *one.parameters()])))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-6, atol=1e-8)


def channels(seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    return Channels((0.05 * torch.randn(2, 4 if seed % 2 else 3, generator=generator)).tolist())


LEARNED = {
    "alista_at": lambda: recipes.alista_at(A, 4, 0.5, step_size=0.3),
    "na_alista": lambda: recipes.na_alista(A, 4, hidden=4),
    "learned_admm": lambda: recipes.learned_admm(recipes.LeastSquaresProx(A), 4, 0.2).double(),
    "learned_projected_gradient": lambda: recipes.learned_projected_gradient(
        measure, adjoint, [Linear() for _ in range(4)], 0.5 / L
    ).double(),
    "learned_primal_dual": lambda: recipes.learned_primal_dual(
        measure, adjoint, [channels(1) for _ in range(4)], [channels(2) for _ in range(4)], memory=2
    ),
    "deep_equilibrium": lambda: recipes.deep_equilibrium(measure, adjoint, Linear(), 0.5 / L).double(),
}


@pytest.mark.parametrize("name", LEARNED)
def test_learns_and_survives_its_state_dict(name):
    torch.manual_seed(0)
    solver = LEARNED[name]()
    x = torch.randn(32, 12, dtype=D) * (torch.rand(32, 12) < 0.2)
    x0, y = torch.zeros_like(x), x @ A.mT
    if name == "learned_primal_dual":
        x, x0, y = x[:, None], x0[:, None], y[:, None]
    call = {"adjoint": unroll.Implicit()} if name == "deep_equilibrium" else {}
    # The equilibrium is one only while gamma < 2 / L: it must not be learned away.
    rate = 1e-3 if name == "deep_equilibrium" else 1e-2
    optimiser = torch.optim.Adam(solver.parameters(), lr=rate)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = (solver(x0, y, **call).x - x).square().mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in solver.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.98 * losses[0]
    fresh = LEARNED[name]()
    with torch.no_grad():
        assert not torch.equal(fresh(x0, y).x, solver(x0, y).x)
        fresh.load_state_dict(solver.state_dict())
        assert torch.equal(fresh(x0, y).x, solver(x0, y).x)
        assert torch.equal(copy.deepcopy(solver)(x0, y).x, solver(x0, y).x)


@pytest.mark.parametrize("name", ["na_alista", "learned_admm", "learned_primal_dual"])
def test_checkpoints_give_the_same_gradient(name):
    torch.manual_seed(0)
    solver = LEARNED[name]()
    x0, y = (X0[:, None], Y[:, None]) if name == "learned_primal_dual" else (X0, Y)
    grads = [
        torch.autograd.grad(solver(x0, y, adjoint=adjoint).x.square().sum(), list(solver.parameters()))
        for adjoint in (unroll.Backprop(), unroll.Checkpointed(2))
    ]
    torch.testing.assert_close(*grads)


def test_recurrent_updates_say_what_they_are_not():
    solver = recipes.na_alista(A, 3, hidden=2)
    with pytest.raises(ValueError, match="untied"):
        solver(X0, Y, adjoint=unroll.Implicit())
    with pytest.raises(TypeError, match="take another scheme"):
        unroll.Unrolled(unroll.ProximalStep(lambda v, data, tau: v, 1.0), steps=1, scheme=recipes.Recurrent())(X0, Y)
    with pytest.raises(NotImplementedError, match="advance"):
        recipes.RecurrentUpdate()(X0, Y, 0)
    torch.testing.assert_close(X0 - solver.update(X0, Y, 0), solver(X0, Y, steps=1).x)
    status = solver(X0, Y, until=unroll.Tolerance()).status
    assert status is not None


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="logarithm"):
        recipes.learned_admm(recipes.LeastSquaresProx(A), 3, 0.0)
    with pytest.raises(ValueError, match="scale"):
        recipes.na_alista(A, 3, scale=0.0)
    with pytest.raises(ValueError, match="real matrix"):
        recipes.LeastSquaresProx(A[0])
    with pytest.raises(ValueError, match="one network for each step"):
        recipes.learned_primal_dual(measure, adjoint, [Linear()], [])
    with pytest.raises(ValueError, match="at least 2"):
        recipes.learned_primal_dual(measure, adjoint, [Linear()], [Linear()], memory=1)


def test_the_data_of_a_training_are_a_function_of_the_step():
    class At:
        step = 3

    problem = recipes.SparseRecovery(m=5, n=8)
    draw = problem.batches(4, seed=1)
    x0, y, x = draw(At())
    assert torch.equal(draw(At())[1], y)
    assert torch.equal(x0, torch.zeros(4, 8))
    assert problem.nmse_db(x @ problem.matrix.mT, y) < -30
    assert not torch.equal(problem.batches(4, seed=2)(At())[1], y)
