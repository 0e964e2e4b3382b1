"""A signal on a cloud of points, known at a few of them and filled in: it is smooth on the graph of neighbours.

Nodes are drawn with a probability p_i that grows with the energy that signals of the band can have there,
p_i = ||U_k^T e_i||^2 / k, estimated by low-passing random signals: small groups of points need it. From the values y at
the nodes drawn, the signal is argmin_x mean (x_i - y_i)^2 / p_i + gamma x^T L^4 x. That takes no eigenvector; only the
test signal is made from some.

Source: G. Puy, N. Tremblay, R. Gribonval, P. Vandergheynst, "Random sampling of bandlimited signals on graphs", ACHA
2018.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from scipy import sparse
from scipy.sparse import linalg

from graphs import ChebyshevLowPass, eigenbasis, knn, plotting

K, DRAWN, COUNTS = 12, 60, (15, 30, 45, 60, 80, 100, 150, 200)


def cloud(generator):
    """A disc of 900 points, and nine groups of 12 around it, each reached over a bridge."""
    angle = 2 * torch.pi * torch.rand(900, 1, generator=generator)
    radius = torch.rand(900, 1, generator=generator).sqrt()
    parts = [radius * torch.cat([angle.cos(), angle.sin()], 1)]
    for turn in 2 * torch.pi * torch.arange(9) / 9:
        ray = torch.stack([turn.cos(), turn.sin()])
        parts += [ray * torch.linspace(1, 1.3, 6)[:, None], 1.42 * ray + 0.05 * torch.randn(12, 2, generator=generator)]
    return torch.cat(parts)


def probabilities(laplacian, generator):
    """p, by the energy of low-passed random signals at each node."""
    noise = torch.randn(laplacian.n, 60, generator=generator, dtype=torch.float64)
    energy = ChebyshevLowPass(laplacian, k=K)(noise).square().sum(dim=1)
    return energy / energy.sum()


def fill_in(laplacian, nodes, values, p, gamma=1e-2):
    n, m = laplacian.n, len(nodes)
    weights = torch.zeros(n, dtype=torch.float64).index_add(0, nodes, 1 / p[nodes] / m)
    data = torch.zeros(n, dtype=torch.float64).index_add(0, nodes, values / p[nodes] / m)
    square = laplacian.to_scipy() @ laplacian.to_scipy()
    matrix = sparse.csc_array(sparse.diags_array(weights.numpy()) + gamma * square @ square)
    return torch.from_numpy(linalg.spsolve(matrix, data.numpy()))


def main(out):
    generator = torch.Generator().manual_seed(0)
    points = cloud(generator)
    laplacian = knn(points, 8, sigma=0.1)
    n, basis = laplacian.n, eigenbasis(laplacian, K).vectors
    signal = basis @ torch.randn(K, generator=generator, dtype=torch.float64)
    chances = {"uniformly": torch.full((n,), 1 / n).double(), "by energy": probabilities(laplacian, generator)}
    errors = {}
    for name, p in chances.items():
        for m in COUNTS:
            draws = [torch.multinomial(p, m, replacement=True, generator=generator) for _ in range(15)]
            found = [fill_in(laplacian, nodes, signal[nodes], p) for nodes in draws]
            errors[name, m] = torch.stack([(x - signal).norm() / signal.norm() for x in found]).median().item()
    p = chances["by energy"]
    nodes = torch.multinomial(p, DRAWN, replacement=True, generator=generator)
    filled = fill_in(laplacian, nodes, signal[nodes], p)
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    first, second, third, last = figure.subplots(1, 4)
    reach = signal.abs().max().item()
    for axes, x, title in (
        (first, signal, f"a signal of the {K} lowest frequencies\non {n} points"),
        (second, 0 * signal, f"what is known: {len(nodes.unique())} of its values\n(ringed)"),
        (third, filled, f"filled in, error {100 * (filled - signal).norm() / signal.norm():.2g} %"),
    ):
        plotting.graph(laplacian, points, signal=x, limits=(-reach, reach), axes=axes)
        axes.set_title(title)
    marks = {"cmap": plotting.DIVERGING, "vmin": -reach, "vmax": reach, "edgecolors": "black", "zorder": 3}
    second.scatter(*points[nodes].T, 30, signal[nodes], **marks)
    for name in chances:
        last.plot(COUNTS, [100 * errors[name, m] for m in COUNTS], "o-", label=f"drawn {name}")
    last.set_yscale("log")
    last.set_xlabel(f"nodes drawn (the band has {K} frequencies)")
    last.set_title("error in per cent, median of 15 draws")
    last.legend()
    figure.savefig(out / "sampling_bandlimited.png", dpi=100)
    return {f"{m} nodes drawn {name}": error for (name, m), error in errors.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples"), help="folder for the picture")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, error in main(folder).items():
        print(f"{name}: {100 * error:.2g} % error")
