"""
Sparse recovery: sixteen iterations, as they are and learned
============================================================

From y = A x + noise a sparse x is to be found, with half as many measurements as unknowns. ISTA and FISTA minimise
1/2 ||A x - y||^2 + weight ||x||_1. LISTA-CP has their form, x <- eta_theta(x - W^T (A x - y)), and learns a W and a
threshold for each of its steps: what it has learned is the distribution of x.
"""

import matplotlib.pyplot as plt
import torch

from unroll import recipes

torch.manual_seed(0)
problem = recipes.SparseRecovery(m=60, n=120)  # one entry of x in ten is not 0, measured at 40 dB
generator = torch.Generator().manual_seed(1)

# %%
# A learned solver begins as ISTA. It is trained on signals that are drawn as they are needed, by the loop anyone would
# write.
learned = recipes.lista_cp(problem.matrix, steps=16)
optimiser = torch.optim.Adam(learned.parameters(), lr=2e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=800)
for _ in range(800):
    x, y = problem.batch(128, generator)
    loss = (learned(torch.zeros_like(x), y).x - x).square().sum(-1).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()

# %%
# All are judged on the same signals, which none has seen. A probe looks at every iterate. The exact solvers have one
# weight to choose; they are given the best of six.
x, y = problem.batch(1000, generator)


@torch.no_grad()
def errors(solver):
    return solver(torch.zeros_like(x), y, probe=lambda now, t: problem.nmse_db(now, x)).trace


def best(recipe):
    curves = [errors(recipe(problem.matrix, 16, weight)) for weight in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)]
    return min(curves, key=lambda curve: curve[-1])


curves = {"ISTA": best(recipes.ista), "FISTA": best(recipes.fista), "LISTA-CP, learned": errors(learned)}
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for name, curve in curves.items():
    axes.plot(curve, marker="o", label=name)
axes.set(xlabel="iteration", ylabel="normalised mean squared error (dB)")
axes.grid(alpha=0.3)
axes.legend()
