"""How well the recipes of `unroll` learn, how little its loop costs, and how fast its projections are.

    python benchmarks/unrolled.py [--only NAME ...] [--repeats 20] [--seed 1]

A readable table goes to standard error, and the last line on standard output is one JSON object, {"bars": [{"name",
"value", "bar", "holds"}, ...]}; a row that could not be measured has the value null and a "note". Nothing is asserted.

The three of sparse recovery (m = 250, n = 500, Bernoulli 0.1, 40 dB, K = 16) are trained here, each for ``--minutes``,
on signals drawn as they are needed, and measured in dB on 10,000 others; A is drawn with seed 0. Ratios of times are of
medians, the two sides taken in turn. Memory is the peak, over forward and backward pass, of the bytes of all storages
that torch's operations have made and not yet freed: activations, the gradient and what is held in passing, but not the
parameters and data that were there before, nor what the allocator of the system keeps of what was freed.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from bars import AT_LEAST, AT_MOST, Bar, report
from storages import Peak
from torch import Tensor

import unroll
from unroll import recipes, sets

STEPS = 16
SELECTION = recipes.Selection()
# Slower, as in the experiments of NA-ALISTA: 1.2 times the expected support, reached in the last step. ALISTA-AT, which
# hardly shrinks what is large anyhow, needs that: with the other it stays at -41.0 dB.
SLOW = recipes.Selection(rate=0.12 / STEPS, most=0.12)


@dataclass(frozen=True)
class Bench:
    """What the figures have in common."""

    repeats: int
    seed: int
    minutes: float


def ratio(above: Callable[[], object], below: Callable[[], object], repeats: int) -> float:
    """The median time of one action over that of another, taken in turn after one call each that is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for action, seconds in zip((above, below), times, strict=True):
            began = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - began)
    return statistics.median(times[0][1:]) / statistics.median(times[1][1:])


def greedily(solver: unroll.Unrolled, problem: recipes.SparseRecovery, generator: torch.Generator) -> None:
    """Begin an ALISTA with each step the best for where those before have led, by L-BFGS on one batch."""
    x, y = problem.batch(1024, generator)
    now = torch.zeros_like(x)
    for t, update in enumerate(solver.update.updates):
        if t:
            update.load_state_dict(solver.update.updates[t - 1].state_dict())
        optimiser = torch.optim.LBFGS(update.parameters(), max_iter=25, line_search_fn="strong_wolfe")

        def closure(update=update, optimiser=optimiser, now=now, t=t) -> Tensor:
            optimiser.zero_grad()
            loss = (now - update(now, y, t) - x).square().sum(-1).mean().log()
            loss.backward()
            return loss

        optimiser.step(closure)
        with torch.no_grad():
            now = now - update(now, y, t)


def trained(
    b: Bench,
    recipe: Callable[..., unroll.Unrolled],
    lr: float,
    *,
    grow: bool = False,
    decay: float = 0.6,
    selection: recipes.Selection = SELECTION,
) -> float:
    """The error in dB of a recipe after some minutes of training at a falling rate, on the logarithm of the error."""
    torch.manual_seed(b.seed)
    problem = recipes.SparseRecovery()
    generator = torch.Generator().manual_seed(b.seed)
    began = time.perf_counter()
    solver = recipe(problem.matrix, STEPS, selection=selection)
    if not grow:
        greedily(solver, problem, generator)
    limit = max(1.0, 60 * b.minutes - (time.perf_counter() - began))

    def batch(at: unroll.Progress) -> tuple[Tensor, Tensor, Tensor, int]:
        x, y = problem.batch(256, generator)
        # One step more at a time, in the first two fifths: a long solver that knows nothing has no use for its end.
        return torch.zeros_like(x), y, x, min(STEPS, 2 + int(STEPS * at.share / 0.4)) if grow else STEPS

    def error(solve: unroll.Solve, batch: tuple[Tensor, Tensor, Tensor, int]) -> Tensor:
        x0, y, x, steps = batch
        return (solve(x0, y, steps=steps).x - x).square().sum(-1).mean().log()

    fitted = unroll.fit(
        solver,
        error,
        batch,
        seconds=limit,
        optimizer=functools.partial(torch.optim.Adam, betas=(0.9, 0.99)),
        lr=lr,
        schedule=unroll.Trapezoid(warmup=20, decay=decay),
        clip=1.0,
        bar=False,
    )
    x, y = problem.batch(10_000, torch.Generator().manual_seed(b.seed + 1_000_003))
    with torch.no_grad():
        nmse = problem.nmse_db(solver(torch.zeros_like(x), y).x, x)
    sys.stderr.write(f"  seed {b.seed}: {fitted.step} steps in {time.perf_counter() - began:.0f} s\n")
    return nmse


def alista_nmse(b: Bench) -> float:
    return trained(b, recipes.alista, 5e-3)


def alista_at_nmse(b: Bench) -> float:
    return trained(b, recipes.alista_at, 2e-2, decay=1.0, selection=SLOW)


def na_alista_nmse(b: Bench) -> float:
    return trained(b, recipes.na_alista, 2e-3, grow=True, selection=SLOW)


class Descent(unroll.LearnedUpdate):
    """gamma A^T (A x - y): the gradient step of both loops."""

    def __init__(self, a: Tensor, gamma: float) -> None:
        super().__init__()
        self.a, self.gamma = a, gamma

    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        return self.gamma * ((x @ self.a.T - data) @ self.a)


def problem_of(m: int, n: int, batch: int) -> tuple[Tensor, float, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(m, n, generator=generator)
    gamma = 1 / float(torch.linalg.matrix_norm(a, 2)) ** 2
    return a, gamma, torch.zeros(batch, n), torch.randn(batch, m, generator=generator)


@torch.no_grad()
def overhead(m: int, n: int, batch: int, repeats: int) -> float:
    a, gamma, x0, y = problem_of(m, n, batch)
    update = Descent(a, gamma)
    solver = unroll.Unrolled(update, steps=50)

    def by_hand() -> Tensor:
        x = x0
        for t in range(50):
            x = x - update(x, y, t)
        return x

    if not torch.equal(by_hand(), solver(x0, y).x):
        raise RuntimeError("the two loops differ")
    return ratio(lambda: solver(x0, y), by_hand, repeats)


def overhead_large(b: Bench) -> float:
    return overhead(4096, 1024, 64, b.repeats)


def overhead_tiny(b: Bench) -> float:
    return overhead(32, 64, 1, 20 * b.repeats)


@torch.no_grad()
def deepinv_step(b: Bench) -> float:
    import deepinv

    a, gamma, x0, y = problem_of(32, 64, 1)
    weight, steps = 1.0, 100
    physics = deepinv.physics.LinearPhysics(A=lambda x: x @ a.T, A_adjoint=lambda u: u @ a)
    theirs = deepinv.optim.PGD(
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.L1Prior(),
        stepsize=gamma,
        lambda_reg=weight,
        max_iter=steps,
        custom_init=lambda y, physics: {"est": (x0, x0)},
    )
    ours = unroll.Unrolled(Descent(a, gamma), steps=steps)
    soft = unroll.SoftThreshold(gamma * weight)
    difference = float((theirs(y, physics) - ours(x0, y, projector=soft).x).abs().max())
    if difference > 1e-4:
        raise RuntimeError(f"the two solutions differ by {difference:.1e}")
    return ratio(lambda: theirs(y, physics), lambda: ours(x0, y, projector=soft), b.repeats)


class Contraction(unroll.LearnedUpdate):
    """x - tanh(w x) / 2 - y, of the fixed point x = tanh(w x) / 2 + y."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.linspace(-0.9, 0.9, n))

    def forward(self, x: Tensor, data: Tensor, t: int) -> Tensor:
        return x - 0.5 * torch.tanh(self.w * x) - data


def memory(adjoint: unroll.Adjoint, steps: int, tolerance: float) -> float:
    """The peak of an adjoint over that of backpropagation, the gradients being equal to a relative tolerance."""
    n = 1 << 16
    solver = unroll.Unrolled(Contraction(n), steps=steps)
    x0, y = torch.zeros(1, n), torch.linspace(-1, 1, n)[None]
    peaks, gradients = [], []
    for how in (adjoint, unroll.Backprop()):
        with Peak() as counted:
            gradients += torch.autograd.grad(solver(x0, y, adjoint=how).x.square().sum(), solver.update.w)
        peaks.append(counted.peak)
    error = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    if error > tolerance:
        raise RuntimeError(f"the gradients differ by {error:.1e}")
    return peaks[0] / peaks[1]


def checkpoint_memory(b: Bench) -> float:
    return memory(unroll.Checkpointed(), 200, 1e-6)


def implicit_memory(b: Bench) -> float:
    return memory(unroll.Implicit(), 500, 1e-4)


def import_time(b: Bench) -> float:
    def start(module: str) -> None:
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    return ratio(lambda: start("unroll"), lambda: start("torch"), max(3, b.repeats // 4))


@torch.no_grad()
def projections_vs_jaxopt(b: Bench) -> float:
    import jax
    import jax.numpy as jnp
    from jaxopt import projection as peer

    generator = torch.Generator().manual_seed(0)
    v = 3 * torch.randn(1024, 1000, generator=generator)
    square = torch.rand(64, 20, 20, generator=generator)
    normal, rows = torch.randn(1000, generator=generator), torch.randn(20, 1000, generator=generator)
    point = torch.rand(1000, generator=generator)
    w, m, at = (jnp.asarray(z.numpy()) for z in (normal, rows, rows @ point))
    zero, one, ones = jnp.zeros(1000), jnp.ones(1000), torch.ones(1000)
    even = torch.full((20,), 0.05)
    share = jnp.asarray(even.numpy())
    section = (zero, one, jnp.ones(1000), 300.0)
    pairs: dict[str, tuple[unroll.Operator, Callable[[jax.Array], jax.Array], Tensor]] = {
        "non-negative": (sets.NonNegative(), peer.projection_non_negative, v),
        "box": (sets.Box(-1, 1), lambda x: peer.projection_box(x, (-one, one)), v),
        "hypercube": (sets.Hypercube(), peer.projection_hypercube, v),
        "l-infinity ball": (sets.LinfBall(), peer.projection_linf_ball, v),
        "simplex": (sets.Simplex(), peer.projection_simplex, v),
        "sparse simplex": (sets.SparseSimplex(10), lambda x: peer.projection_sparse_simplex(x, 10), v),
        "l1 ball": (sets.L1Ball(), peer.projection_l1_ball, v),
        "l1 sphere": (sets.L1Sphere(), peer.projection_l1_sphere, v),
        "l2 ball": (sets.L2Ball(), peer.projection_l2_ball, v),
        "l2 sphere": (sets.L2Sphere(), peer.projection_l2_sphere, v),
        "hyperplane": (sets.Hyperplane(normal, 1.0), lambda x: peer.projection_hyperplane(x, (w, 1.0)), v),
        "half-space": (sets.HalfSpace(normal, 1.0), lambda x: peer.projection_halfspace(x, (w, 1.0)), v),
        "affine set": (sets.AffineSet(rows, rows @ point), lambda x: peer.projection_affine_set(x, (m, at)), v),
        "box section": (sets.BoxSection(0.0, 1.0, ones, 300.0), lambda x: peer.projection_box_section(x, section), v),
        # What it differs by is theirs, whose sums are wrong by as much: see the test against Dykstra's algorithm.
        "transport": (
            sets.TransportPolytope(even, even),
            lambda x: peer.projection_transport(x, (share, share)),
            square,
        ),
    }
    found = []
    for name, (ours, theirs, signal) in pairs.items():
        jitted = jax.jit(jax.vmap(theirs))
        x = jnp.asarray(signal.numpy())
        repeats = max(3, b.repeats // 4)
        try:
            apart = float((ours(signal) - torch.from_numpy(jitted(x).__array__().copy())).abs().max())
            value = ratio(lambda f=jitted, x=x: f(x).block_until_ready(), lambda f=ours, s=signal: f(s), repeats)
        except Exception as error:  # A peer's own failure is a line of the table, and no figure.
            sys.stderr.write(f"  {name:18s} not measured: {type(error).__name__}: {str(error)[:80]}\n")
            continue
        sys.stderr.write(f"  {name:18s} {value:8.2f} times as fast, {apart:.1e} apart\n")
        found.append(value)
    return statistics.median(found)


BARS: dict[str, Bar[Bench]] = {
    "alista_nmse": (alista_nmse, AT_MOST, -39.0),
    "alista_at_nmse": (alista_at_nmse, AT_MOST, -41.9),
    "na_alista_nmse": (na_alista_nmse, AT_MOST, -42.2),
    "overhead_large": (overhead_large, AT_MOST, 1.1),
    "overhead_tiny": (overhead_tiny, AT_MOST, 1.5),
    "deepinv_step": (deepinv_step, AT_LEAST, 2),
    "checkpoint_memory": (checkpoint_memory, AT_MOST, 0.125),
    "implicit_memory": (implicit_memory, AT_MOST, 0.05),
    "import_time": (import_time, AT_MOST, 1.15),
    "projections_vs_jaxopt": (projections_vs_jaxopt, AT_LEAST, 1),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(BARS), default=list(BARS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the signals, in training and after")
    parser.add_argument("--minutes", type=float, default=4.5, help="of training, for each recipe")
    options = parser.parse_args(arguments)
    report(BARS, options.only, Bench(options.repeats, options.seed, options.minutes))


if __name__ == "__main__":
    main()
