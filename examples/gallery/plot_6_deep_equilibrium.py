"""
Deep equilibrium: as many steps as it takes
===========================================

A deep equilibrium model has no last layer: its output is the fixed point x = N(x - gamma A^T (A x - y)) of one learned
step. Anderson acceleration finds it, to a tolerance, and :class:`unroll.Implicit` differentiates it by the implicit
function theorem, at the memory of one step, however many were taken. Here it takes a blur and noise off signals. So
does :func:`unroll.recipes.learned_projected_gradient`, of the same step unrolled five times, each with an N of its own.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import unroll
from unroll.recipes import deep_equilibrium, learned_projected_gradient

N = 64
torch.manual_seed(0)
place = torch.linspace(-1, 1, N)
A = torch.exp(-((place[:, None] - place) ** 2) / (2 * 0.12**2))
A = A / torch.linalg.matrix_norm(A, 2)


def draw(count):
    """Signals of three steps each, and what is measured of them."""
    where, height = 1.6 * torch.rand(count, 3, 1) - 0.8, torch.randn(count, 3, 1)
    x = (height * torch.tanh((place - where) / 0.03)).sum(1) / 2
    return x, x @ A.mT + 0.1 * torch.randn(count, N)


# %%
# N is a gradient step on a learned convex function, a sum of smoothed absolute values of W v: where ||W|| <= 1 it is
# non-expansive, so that with the factor there is one fixed point. W begins as differences; training scales it back.
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(0.4 * (torch.eye(N)[1:] - torch.eye(N)[:-1]))
        self.height = nn.Parameter(torch.full((N - 1,), 0.1))

    def forward(self, v):
        return 0.995 * (v - (self.height * torch.tanh(v @ self.weight.mT / self.height)) @ self.weight)

    @torch.no_grad()
    def rescale(self):
        self.weight /= torch.linalg.matrix_norm(self.weight, 2).clamp(min=1)
        self.height.clamp_(min=1e-3)


def train(solver, networks, **how):
    optimiser = torch.optim.Adam(networks.parameters(), lr=3e-3)
    for _ in range(150):
        x, y = draw(32)
        loss = (solver(torch.zeros_like(x), y, **how).x - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for network in networks:
            network.rescale()


K, adjoint, one, five = lambda x: x @ A.mT, lambda u: u @ A, Network(), nn.ModuleList(Network() for _ in range(5))
solver, unrolled = deep_equilibrium(K, adjoint, one, 1.0, steps=200), learned_projected_gradient(K, adjoint, five, 1.0)
train(solver, nn.ModuleList([one]), until=unroll.Tolerance(3e-3), adjoint=unroll.Implicit(tol=1e-2, max_iter=500))
train(unrolled, five)

# %%
# The tolerance is an argument of the call: what was trained loosely is solved as exactly as one likes. The network is
# compared with the quadratic penalty of the best weight.
x, y = draw(500)
with torch.no_grad():
    solution = solver(torch.zeros_like(x), y, until=unroll.Tolerance(1e-6), steps=500)
    five_steps = unrolled(torch.zeros_like(x), y).x
    ridge = [y @ A @ torch.linalg.inv(A.mT @ A + weight * torch.eye(N)) for weight in 10 ** torch.linspace(-5, -1, 17)]
    best = min(ridge, key=lambda found: float((found - x).norm()))
print(solution.status)
figure, parts = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for axes, i in zip(parts, range(3), strict=True):
    axes.plot(place, x[i], color="0.7", lw=3, label="signal")
    for name, found in {"quadratic penalty": best, "fixed point": solution.x, "five steps": five_steps}.items():
        error = float((found - x).norm() / x.norm())
        axes.plot(place, found[i], label=f"{name}, error {100 * error:.0f} % in the mean")
figure.legend(*parts[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)

# %%
# The way there, of the same map, with and without acceleration.
with torch.no_grad():
    traces = {
        name: run(0 * x, y, steps=30, probe=lambda z, t: float((z - solution.x).norm() / solution.x.norm())).trace
        for name, run in {"plain": unroll.Unrolled(solver.update, steps=60), "Anderson": solver}.items()
    }
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, distances in traces.items():
    axes.semilogy(distances, label=name)
axes.set(xlabel="iteration", ylabel="relative distance\nfrom the fixed point")
axes.grid(alpha=0.3)
axes.legend()
