"""Sparse recovery, y = A x with a sparse x, in eight iterations: ISTA, x <- soft(x - A^T (A x - y) / bound), and a
solver that starts there and learns its matrices and threshold (LISTA: K. Gregor and Y. LeCun, ICML 2010).
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

import unroll

A = torch.randn(30, 60, generator=torch.Generator().manual_seed(0)) / 30**0.5
BOUND, STEPS = torch.linalg.matrix_norm(A, 2) ** 2, 8


class Learned(unroll.LearnedUpdate):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(A / BOUND)

    def forward(self, x, data, t):
        return (x @ A.T - data) @ self.w


@torch.no_grad()
def nmse(solver, threshold, x):
    errors = solver(0 * x, x @ A.T, projector=threshold, probe=lambda now, t: (now - x).square().sum()).trace
    return [10 * torch.log10(error / errors[0]).item() for error in errors]


def main(out):
    torch.manual_seed(0)
    unseen, *batches = (torch.randn(256, 60) * (torch.rand(256, 60) < 0.1) for _ in range(301))
    solver = unroll.Unrolled(unroll.PerStep(Learned() for _ in range(STEPS)), steps=STEPS)
    ista = [nmse(solver, unroll.SoftThreshold(weight / BOUND), unseen) for weight in (0.03, 0.1, 0.2, 0.3, 0.5)]
    threshold = unroll.SoftThreshold(torch.nn.Parameter(torch.tensor(0.05)))
    optimiser = torch.optim.Adam([*solver.parameters(), *threshold.parameters()], lr=1e-2)
    for x in batches:
        optimiser.zero_grad()
        (solver(0 * x, x @ A.T, projector=threshold).x - x).square().sum(-1).mean().backward()
        optimiser.step()
    curves = {"ISTA (best weight)": min(ista, key=lambda c: c[-1]), "learned": nmse(solver, threshold, unseen)}
    axes = Figure(layout="constrained").subplots()
    for name, curve in curves.items():
        axes.plot(curve, marker="o", label=name)
    axes.set(xlabel="iteration", ylabel="normalised mean squared error (dB)", title="sparse recovery, unseen signals")
    axes.legend()
    axes.figure.savefig(out / "learned_solver.png", dpi=120)
    return {name: curve[-1] for name, curve in curves.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, decibels in main(folder).items():
        print(f"{name}: {decibels:.1f} dB after {STEPS} iterations")
