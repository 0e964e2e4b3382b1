"""
One solver, any constraint: the projector swapped at run time
=============================================================

A solver is trained once, without a constraint, to undo a blur. The constraint is an argument of the call: what is known
of a signal today (that it is not negative, that it only rises, that it has few pieces) is put in today. The weights
stay as they are.
"""

import matplotlib.pyplot as plt
import torch

import unroll
from unroll import penalties, sets

N, STEPS = 80, 12
torch.manual_seed(0)
place = torch.arange(N)
A = torch.exp(-((place[:, None] - place) ** 2) / (2 * 3.0**2))
A = A / torch.linalg.matrix_norm(A, 2)


# %%
# Twelve steps x - W_t (A x - y), each with a matrix of its own, which begins as that of a long gradient step.
class Step(unroll.LearnedUpdate):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(1.5 * A)

    def forward(self, x, data, t):
        return (x @ A - data) @ self.weight


solver = unroll.Unrolled(unroll.PerStep(Step() for _ in range(STEPS)), steps=STEPS)
optimiser = torch.optim.Adam(solver.parameters(), lr=2e-3)
for _ in range(300):
    x = torch.randn(128, N).cumsum(1) / 6  # signals that wander, of any sign and direction
    y = x @ A + 0.02 * torch.randn(128, N)
    loss = (solver(torch.zeros_like(x), y).x - x).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

# %%
# Three signals of other kinds, and for each the projector that knows about it.
spikes = torch.zeros(N)
spikes[[9, 24, 40, 62]] = torch.tensor([1.0, 0.6, 1.4, 0.8])
bumps = spikes.view(1, 1, -1)
bumps = torch.nn.functional.conv1d(bumps, torch.ones(1, 1, 5), padding=2)[0, 0]
rises = torch.cat([torch.zeros(20), 0.5 * torch.ones(25), 1.2 * torch.ones(20), 1.5 * torch.ones(15)])
pieces = torch.cat([0.2 * torch.ones(25), 1.1 * torch.ones(20), -0.4 * torch.ones(20), 0.5 * torch.ones(15)])
kinds = {
    "not negative\nsets.NonNegative()": (bumps, sets.NonNegative()),
    "rising\nsets.Isotonic()": (rises, sets.Isotonic()),
    "few pieces\npenalties.TotalVariation1d(0.05)": (pieces, penalties.TotalVariation1d(0.05)),
}
figure, parts = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
before = {name: value.clone() for name, value in solver.state_dict().items()}
for axes, (name, (truth, projector)) in zip(parts, kinds.items(), strict=True):
    y = truth[None] @ A + 0.02 * torch.randn(1, N)
    with torch.no_grad():
        free, held = (solver(torch.zeros_like(y), y, projector=p).x[0] for p in (None, projector))
    axes.plot(truth, color="0.7", lw=3, label="signal")
    axes.plot(free, label=f"no projector, error {float((free - truth).norm() / truth.norm()):.2f}")
    axes.plot(held, label=f"projector, error {float((held - truth).norm() / truth.norm()):.2f}")
    axes.set_title(name)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False)
assert all(torch.equal(value, before[name]) for name, value in solver.state_dict().items())
