"""Every recipe among compilers, exporters and copies, and the names of its parameters."""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unroll
from unroll import recipes
from unroll.penalties import Denoiser

PROBLEM = recipes.SparseRecovery(m=12, n=24)
A = PROBLEM.matrix
STEP = 1 / float(torch.linalg.matrix_norm(A, 2)) ** 2


class Matrix(nn.Module):
    """x -> A x along the last dimension; what is not learned stays out of the state dict."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.register_buffer("a", a, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.a.mT


class Gain(nn.Module):
    """v -> tanh(g) tanh(v), a contraction."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((24,), 0.6))

    def forward(self, v: Tensor) -> Tensor:
        return torch.tanh(self.gain) * torch.tanh(v)


class WithProjector(nn.Module):
    """A solver with the projector that it is always called with, and vectors for signals of one channel."""

    def __init__(self, solver: unroll.Unrolled, projector: unroll.Operator | None, channel: bool) -> None:
        super().__init__()
        self.solver, self.projector, self.channel = solver, projector, channel

    def forward(self, x0: Tensor, data: Tensor) -> Tensor:
        if self.channel:
            x0, data = x0[:, None], data[:, None]
        x: Tensor = self.solver(x0, data, projector=self.projector).x
        return x[:, 0] if self.channel else x


def primal_dual() -> unroll.Unrolled:
    dual, primal = ([nn.Conv1d(channels, 2, 3, padding=1) for _ in range(3)] for channels in (4, 3))
    return recipes.learned_primal_dual(Matrix(A), Matrix(A.mT), dual, primal, memory=2)


def projected_gradient() -> unroll.Unrolled:
    return recipes.learned_projected_gradient(Matrix(A), Matrix(A.mT), [Gain(), None, Gain()], STEP)


def equilibrium(scheme: unroll.Scheme | None = None) -> unroll.Unrolled:
    return recipes.deep_equilibrium(Matrix(A), Matrix(A.mT), Gain(), STEP, steps=4, scheme=scheme)


def denoised() -> nn.Module:
    return WithProjector(recipes.plug_and_play(recipes.LeastSquaresProx(A), steps=3), Denoiser(Gain()), False)


def keys(count: int, *names: str) -> list[str]:
    return [f"update.{name}.{t}" for name in names for t in range(count)]


def each(count: int, *names: str) -> list[str]:
    return [f"update.updates.{t}.{name}" for t in range(count) for name in names]


NEURAL = ["begin", "head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]
NEURAL += [f"cell.{kind}_{gate}" for kind in ("weight", "bias") for gate in ("ih", "hh")]
CONVOLUTIONS = [f"update.{side}.{t}.{k}" for side in ("dual", "primal") for t in range(3) for k in ("weight", "bias")]
SELECTION = recipes.Selection(0.1, 0.2)
# How to build it, and its state dict as docs/howto/interoperability.md has it.
RECIPES: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "ista": (lambda: recipes.ista(A, 3, 0.1), []),
    "fista": (lambda: recipes.fista(A, 3, 0.1), []),
    "lista": (lambda: recipes.lista(A, 3), ["update.encoder", *keys(3, "mixing", "thresholds")]),
    "lista_cp": (lambda: recipes.lista_cp(A, 3, selection=SELECTION), each(3, "weights", "threshold")),
    "tilista": (lambda: recipes.tilista(A, 3), ["update.weights", *keys(3, "step_sizes", "thresholds")]),
    "alista": (lambda: recipes.alista(A, 3), each(3, "step_size", "threshold")),
    "alista_at": (lambda: recipes.alista_at(A, 3, selection=SELECTION), each(3, "step_size", "threshold")),
    "na_alista": (lambda: recipes.na_alista(A, 3, hidden=4, selection=SELECTION), [f"update.{k}" for k in NEURAL]),
    "learned_admm": (
        lambda: recipes.learned_admm(recipes.LeastSquaresProx(A), 3),
        ["update.log_tau", "update.log_threshold", "update.relaxation"],
    ),
    "learned_projected_gradient": (
        projected_gradient,
        [*each(3, "step_size"), *(f"update.updates.{t}.network.gain" for t in (0, 2))],
    ),
    "learned_primal_dual": (lambda: WithProjector(primal_dual(), None, True), [f"solver.{k}" for k in CONVOLUTIONS]),
    "plug_and_play": (denoised, ["projector.denoise.gain"]),
    "deep_equilibrium": (equilibrium, ["update.step_size", "update.network.gain"]),
    "deep_equilibrium, plain": (
        lambda: equilibrium(unroll.ForwardBackward()),
        ["update.step_size", "update.network.gain"],
    ),
    "gradient": (lambda: unroll.Unrolled(unroll.GradientStep(unroll.LeastSquares(A), 0.1), steps=3), []),
}
# Anderson acceleration solves a linear system in every step, and ONNX has no operator for that.
EXPORTED = [name for name in RECIPES if name != "deep_equilibrium"]


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return RECIPES[name][0]()


def data() -> tuple[Tensor, Tensor]:
    x, y = PROBLEM.batch(4, torch.Generator().manual_seed(1))
    return torch.zeros_like(x), y


def solved(solver: Callable[..., Any], *arguments: Tensor) -> Tensor:
    found = solver(*arguments)
    return found if isinstance(found, Tensor) else found.x


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_compile_as_one_graph(name: str) -> None:
    torch.compiler.reset()
    solver, (x0, y) = build(name), data()
    # Down to the operators that a backend is given, forwards and backwards, without the C++ compiler of inductor.
    compiled = torch.compile(solver, fullgraph=True, backend="aot_eager")
    expected, found = solved(solver, x0, y), solved(compiled, x0, y)
    torch.testing.assert_close(found, expected)
    parameters = list(solver.parameters())
    if parameters:
        gradients = [torch.autograd.grad(x.square().sum(), parameters) for x in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EXPORTED)
def test_recipes_export_to_onnx_and_give_the_same_there(name: str, tmp_path: Path) -> None:
    import onnxruntime

    solver, (x0, y) = build(name).eval(), data()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(solver, (x0, y), dynamic_shapes={"x0": {0: batch}, "data": {0: batch}})
    larger = (torch.cat([x0, x0]), torch.cat([y, -y]))
    with torch.no_grad():
        expected = solved(solver, *larger)
        torch.testing.assert_close(solved(program.module(), *larger), expected)
    logging.disable(logging.WARNING)  # that a Solution has a status, None, which ONNX cannot say
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "solver.onnx")
    finally:
        logging.disable(logging.NOTSET)
    session = onnxruntime.InferenceSession(tmp_path / "solver.onnx", providers=["CPUExecutionProvider"])
    assert [port.name for port in session.get_inputs()] == ["x0", "data"]
    (found,) = session.run(None, {"x0": larger[0].numpy(), "data": larger[1].numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_an_accelerated_equilibrium_exports_but_not_to_onnx() -> None:
    solver, (x0, y) = build("deep_equilibrium"), data()
    program = torch.export.export(solver, (x0, y))
    torch.testing.assert_close(program.module()(x0, y).x, solver(x0, y).x)
    assert any("linalg_solve" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("name", RECIPES)
def test_state_dicts_are_what_the_documents_say_and_copies_solve_alike(name: str) -> None:
    solver, (x0, y) = build(name), data()
    assert sorted(solver.state_dict()) == sorted(RECIPES[name][1])
    expected = solved(solver, x0, y)
    for twin in (copy.copy(solver), copy.deepcopy(solver), pickle.loads(pickle.dumps(solver))):
        assert torch.equal(solved(twin, x0, y), expected)
    own = {p.data_ptr() for p in solver.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in copy.deepcopy(solver).parameters())
    fresh = build(name)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(0.05)
    assert not own or not torch.equal(solved(fresh, x0, y), expected)
    fresh.load_state_dict(solver.state_dict())
    assert torch.equal(solved(fresh, x0, y), expected)
    wide = copy.deepcopy(solver).to(torch.float64)
    found = solved(wide, x0.double(), y.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-5)
    assert solved(copy.deepcopy(solver).to("meta"), x0.to("meta"), y.to("meta")).is_meta
