"""A learned solver in a dozen lines: learned ISTA beside ISTA on sparse recovery.

y = A x* with a sparse x*; ISTA iterates x <- soft(x - A^T (A x - y) / L). LISTA (Gregor and LeCun, 2010) learns a
matrix and the thresholds of as few steps. The soft threshold is put in at the call, as any operator is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import unroll

STEPS, M, N = 8, 30, 60


class Lista(unroll.LearnedUpdate):
    """g_t(x) = W_t^T (A x - y), W_t learned from A / L on."""

    max_steps = STEPS

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = a
        self.w = nn.Parameter((a / torch.linalg.matrix_norm(a, 2) ** 2).repeat(STEPS, 1, 1))

    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        return (x @ self.a.T - data) @ self.w[t]


class Thresholds(unroll.SoftThreshold):
    """A soft threshold of its own for each iteration."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.theta = nn.Parameter(torch.full((STEPS,), 0.05))

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        return super().forward(v, tau * self.theta[t])  # type: ignore[arg-type]


def main(out: Path, training_steps: int = 400) -> dict[str, list[float]]:
    torch.manual_seed(0)
    a = torch.randn(M, N) / M**0.5

    def draw(batch: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, N) * (torch.rand(batch, N) < 0.1)
        return x, x @ a.T

    solver, thresholds = unroll.Unrolled(Lista(a), steps=STEPS), Thresholds()
    optimiser = torch.optim.Adam([*solver.parameters(), *thresholds.parameters()], lr=3e-3)
    for _ in range(training_steps):
        truth, y = draw(256)
        loss = (solver(torch.zeros(256, N), y, projector=thresholds).x - truth).square().sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    truth, y = draw(2000)
    lipschitz = float(torch.linalg.matrix_norm(a, 2)) ** 2
    ista = unroll.Unrolled(Lista(a), steps=STEPS)
    curves = {}
    with torch.no_grad():
        for name, s, projector in (
            ("ISTA", ista, unroll.SoftThreshold(0.05 / lipschitz)),
            ("learned ISTA", solver, thresholds),
        ):
            trace = s(torch.zeros(2000, N), y, projector=projector, probe=lambda x, t: (x - truth).square().sum()).trace
            curves[name] = [10 * float(torch.log10(e / truth.square().sum())) for e in trace]
    for name, curve in curves.items():
        plt.plot(curve, marker="o", label=name)
    plt.xlabel("iteration")
    plt.ylabel("NMSE (dB)")
    plt.legend()
    plt.savefig(out / "learned_solver.png", dpi=120)
    plt.close()
    return curves


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"))
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, curve in main(folder).items():
        print(f"{name}: NMSE {curve[-1]:.1f} dB after {STEPS} iterations")
