"""The recipes of sparse recovery, against coordinate descent, scipy and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from unroll import recipes

A = torch.randn(8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
X0 = torch.zeros(3, 12, dtype=torch.float64)
L = float(torch.linalg.eigvalsh(A @ A.mT)[-1])


def coordinate_descent(a: np.ndarray, y: np.ndarray, weight: float) -> np.ndarray:
    x = np.zeros(a.shape[1])
    for _ in range(3000):
        for i, column in enumerate(a.T):
            z = column @ (y - a @ x) + column @ column * x[i]
            x[i] = np.sign(z) * max(abs(z) - weight, 0) / (column @ column)
    return x


@pytest.mark.parametrize(("recipe", "steps"), [(recipes.ista, 5000), (recipes.fista, 2000)])
def test_ista_and_fista_find_the_lasso(recipe, steps):
    lasso = coordinate_descent(A.numpy(), Y[0].numpy(), 0.5)
    found = recipe(A, steps, 0.5)(X0[:1], Y[:1]).x[0].numpy()
    np.testing.assert_allclose(found, lasso, atol=1e-5)


def test_fista_is_ahead_of_ista():
    def objective(x: Tensor) -> float:
        return float((0.5 * (x @ A.mT - Y).square().sum(-1) + 0.5 * x.abs().sum(-1)).sum())

    assert objective(recipes.fista(A, 30, 0.5)(X0, Y).x) < objective(recipes.ista(A, 30, 0.5)(X0, Y).x)


@pytest.mark.parametrize(
    "solver",
    [
        recipes.lista(A, 6, 0.5),
        recipes.lista_cp(A, 6, 0.5),
        recipes.tilista(A, 6, 0.5),
        recipes.alista(A, 6, 0.5, weights=A, step_size=1 / L),
    ],
    ids=["lista", "lista_cp", "tilista", "alista"],
)
def test_learned_recipes_begin_as_ista(solver):
    torch.testing.assert_close(solver(X0 + 1, Y).x, recipes.ista(A, 6, 0.5)(X0 + 1, Y).x, rtol=1e-10, atol=1e-12)


def test_parameter_counts_are_those_of_the_papers():
    m, n, k = 8, 12, 5
    counts = {
        recipes.ista(A, k, 0.5): 0,
        recipes.fista(A, k, 0.5): 0,
        recipes.lista(A, k): n * m + k * (n * n + 1),
        recipes.lista_cp(A, k): k * (m * n + 1),
        recipes.tilista(A, k): m * n + 2 * k,
        recipes.alista(A, k): 2 * k,
    }
    for solver, count in counts.items():
        parameters = list(solver.parameters())
        assert sum(p.numel() for p in parameters) == count
        assert len({p.data_ptr() for p in parameters}) == len(parameters)


def test_analytic_weights_solve_their_problem():
    w = recipes.analytic_weights(A)
    torch.testing.assert_close((w * A).sum(0), torch.ones(12, dtype=torch.float64))
    a = A.numpy()
    for i in (0, 7):
        column = a[:, i]
        oracle = minimize(
            lambda v: ((v @ a) ** 2).sum(),
            column / (column @ column),
            jac=lambda v: 2 * a @ (v @ a),
            constraints={"type": "eq", "fun": lambda v, c=column: v @ c - 1, "jac": lambda v, c=column: c},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(w[:, i].numpy(), oracle.x, atol=1e-5)


def test_selection_leaves_the_largest_entries_unshrunk():
    selection = recipes.Selection(rate=0.25, most=0.5)
    assert [selection.count(12, t) for t in range(4)] == [3, 6, 6, 6]
    y = Y[:1]
    v = y @ A / L
    plain = recipes.lista_cp(A, 1, 0.5)(X0[:1], y).x
    picked = recipes.lista_cp(A, 1, 0.5, selection=selection)(X0[:1], y).x
    largest = v.abs().argsort(descending=True)[0]
    top = largest[:3][v[0, largest[:3]].abs() > 0.5 / L]
    assert len(top) > 0
    torch.testing.assert_close(picked[0, top], v[0, top])
    torch.testing.assert_close(picked[0, largest[3:]], plain[0, largest[3:]])


def test_the_problem_is_that_of_the_paper():
    problem = recipes.SparseRecovery(m=20, n=40, seed=3)
    torch.testing.assert_close(problem.matrix.norm(dim=0), torch.ones(40))
    assert torch.equal(problem.matrix, recipes.SparseRecovery(m=20, n=40, seed=3).matrix)
    assert not torch.equal(problem.matrix, recipes.SparseRecovery(m=20, n=40, seed=4).matrix)
    x, y = problem.batch(20000, torch.Generator().manual_seed(0))
    again, _ = problem.batch(20000, torch.Generator().manual_seed(0))
    assert torch.equal(x, again)
    assert float((x != 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    clean = x @ problem.matrix.mT
    assert problem.nmse_db(y, clean) == pytest.approx(-40, abs=0.2)
    assert problem.nmse_db(1.1 * x, x) == pytest.approx(-20, abs=1e-3)


@pytest.mark.parametrize("recipe", [recipes.lista, recipes.lista_cp, recipes.tilista, recipes.alista])
def test_a_short_training_beats_ista(recipe):
    problem = recipes.SparseRecovery(m=20, n=40)
    generator = torch.Generator().manual_seed(1)
    solver = recipe(problem.matrix, 5)
    optimiser = torch.optim.Adam(solver.parameters(), lr=1e-2)
    for _ in range(150):
        x, y = problem.batch(64, generator)
        optimiser.zero_grad()
        (solver(0 * x, y).x - x).square().sum(-1).mean().backward()
        optimiser.step()
    x, y = problem.batch(1000, generator)
    with torch.no_grad():
        best = min(
            problem.nmse_db(recipes.ista(problem.matrix, 5, w)(0 * x, y).x, x) for w in (0.02, 0.05, 0.1, 0.2, 0.4)
        )
        assert problem.nmse_db(solver(0 * x, y).x, x) < best - 1


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="column of zeros"):
        recipes.analytic_weights(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="must be a matrix"):
        recipes.ista(torch.zeros(2), 3, 0.1)
    with pytest.raises(TypeError, match="must be real"):
        recipes.ista(torch.zeros(2, 3, dtype=torch.complex64), 3, 0.1)
    with pytest.raises(TypeError, match="must be real"):
        recipes.analytic_weights(torch.ones(2, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match="shape of A"):
        recipes.alista(A, 3, weights=A.mT)
    with pytest.raises(ValueError, match="density"):
        recipes.SparseRecovery(density=0.0)
    with pytest.raises(ValueError, match="rate and most"):
        recipes.Selection(rate=2.0)
