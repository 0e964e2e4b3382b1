"""
Sparse recovery: sixteen iterations, as they are and learned
============================================================

From y = A x + noise a sparse x is to be found, with half as many measurements as unknowns. ISTA and FISTA minimise
1/2 ||A x - y||^2 + weight ||x||_1. The learned solvers have their form, x <- eta_theta(x - gamma W^T (A x - y)), and
learn W, gamma and theta, or some of these: what they have learned is the distribution of x.
"""

import matplotlib.pyplot as plt
import torch

import unroll
from unroll import recipes

problem = recipes.SparseRecovery(m=60, n=120)  # one entry of x in ten is not 0, measured at 40 dB
A, STEPS = problem.matrix, 16
slow = recipes.Selection(rate=0.12 / STEPS, most=0.12)  # the largest entries are not shrunk, a few more at every step

# %%
# Each is built in a line and begins as an exact solver, or near one. ``hidden`` is the width of the network that
# chooses gamma and theta for each sample.
torch.manual_seed(0)
learned = {
    "LISTA": (recipes.lista(A, STEPS), 2e-3),
    "LISTA-CP": (recipes.lista_cp(A, STEPS, selection=slow), 1e-3),
    "TiLISTA": (recipes.tilista(A, STEPS, selection=slow), 2e-3),
    "ALISTA": (recipes.alista(A, STEPS, selection=slow), 2e-2),
    "ALISTA-AT": (recipes.alista_at(A, STEPS, selection=slow), 2e-2),
    "NA-ALISTA": (recipes.na_alista(A, STEPS, hidden=32, selection=slow), 5e-3),
    "learned ADMM": (recipes.learned_admm(recipes.LeastSquaresProx(A), STEPS, 0.05), 5e-3),
}


# %%
# Training is one function, on signals that are drawn as they are needed. The solvers grow by one step after another in
# the first half; the logarithm lets the last decibel count as much as the first.
def loss(solve, batch):
    x0, y, x = batch
    return (solve(x0, y).x - x).square().sum(-1).mean().log()


for solver, rate in learned.values():
    how = {"lr": rate, "schedule": unroll.Trapezoid(20, 0.6), "stages": unroll.StageWise(until=0.5), "clip": 1.0}
    unroll.fit(solver, loss, problem.batches(128), steps=500, bar=False, **how)

# %%
# All are judged on the same signals, which none has seen. A probe looks at every iterate. The exact solvers have one
# weight to choose; they are given the best of six.
x, y = problem.batch(1000, torch.Generator().manual_seed(1))


@torch.no_grad()
def errors(solver):
    return solver(torch.zeros_like(x), y, probe=lambda now, t: problem.nmse_db(now, x)).trace


def best(recipe):
    return min((errors(recipe(A, STEPS, w)) for w in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)), key=lambda curve: curve[-1])


curves = {"ISTA": best(recipes.ista), "FISTA": best(recipes.fista)}
curves |= {name: errors(solver) for name, (solver, _) in learned.items()}
figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for name, curve in curves.items():
    axes.plot(curve, marker=".", label=f"{name}, {curve[-1]:.1f} dB")
axes.set(xlabel="iteration", ylabel="normalised mean squared error (dB)")
axes.grid(alpha=0.3)
axes.legend(fontsize="small")
