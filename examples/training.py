"""ALISTA trained on data made on the fly: interrupted half-way, resumed, and the same as if nothing had happened. It
grows step by step, keeps an average, and writes its checkpoint and its log beside the picture of its loss.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure

import unroll

PROBLEM = unroll.recipes.SparseRecovery(m=30, n=60)
STEPS = 300


def data(at):
    x, y = PROBLEM.batch(64, torch.Generator().manual_seed(at.step))
    return torch.zeros_like(x), y, x


@torch.no_grad()
def evaluate(at):
    x, y = PROBLEM.batch(1000, torch.Generator().manual_seed(-1))
    return {"nmse": PROBLEM.nmse_db(at.average(torch.zeros_like(x), y).x, x)}


def train(folder, **options):
    return unroll.fit(
        unroll.recipes.alista(PROBLEM.matrix, steps=8),
        unroll.Supervised(),
        data,
        steps=STEPS,
        optimizer=torch.optim.Adam,
        lr=1e-2,
        schedule=unroll.Trapezoid(warmup=20, decay=0.3),
        stages=unroll.StageWise(until=0.4, alone=0.5),
        ema=0.99,
        checkpoint=folder / "checkpoint.pt",
        log=folder / "log.jsonl",
        evaluate=evaluate,
        **options,
    )


def stop_half_way(at):
    at.stopped = at.step == STEPS // 2


def main(out, work):
    straight = train(work / "straight")
    train(work / "resumed", callbacks=[stop_half_way])
    resumed = train(work / "resumed", resume=True)
    pairs = zip(straight.solver.parameters(), resumed.solver.parameters(), strict=True)
    difference = max(float((one - other).detach().abs().max()) for one, other in pairs)
    lines = [json.loads(line) for line in (work / "resumed" / "log.jsonl").read_text().splitlines()]
    steps, losses = zip(*((line["step"], line["loss"]) for line in lines if "loss" in line), strict=True)
    axes = Figure(layout="constrained").subplots()
    axes.semilogy(steps, losses)
    axes.axvline(STEPS // 2, linestyle=":", label="stopped and resumed")
    axes.set(xlabel="step of training", ylabel=r"$\|x_t - x^*\|^2$, mean", title="ALISTA growing to eight iterations")
    axes.legend()
    axes.figure.savefig(out / "training.png", dpi=120)
    nmse = [line["nmse"] for line in lines if "nmse" in line]
    return {"half-way (dB)": nmse[0], "at the end (dB)": nmse[-1], "straight and resumed differ by": difference}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        numbers = main(folder, Path(work))
    for name, value in numbers.items():
        print(f"{name}: {value:.2f}")
