"""The solvers among the tools that people have already: transforms, compilers, exporters, operators, copies."""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pylops
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

import unroll
from unroll import recipes, sets

PROBLEM = recipes.SparseRecovery(m=12, n=24)
A = PROBLEM.matrix
RECIPES: dict[str, Callable[[], unroll.Unrolled]] = {
    "ista": lambda: recipes.ista(A, 3, 0.1),
    "fista": lambda: recipes.fista(A, 3, 0.1),
    "lista": lambda: recipes.lista(A, 3),
    "lista_cp": lambda: recipes.lista_cp(A, 3, selection=recipes.Selection(0.1, 0.2)),
    "tilista": lambda: recipes.tilista(A, 3),
    "alista": lambda: recipes.alista(A, 3),
    "gradient": lambda: unroll.Unrolled(unroll.GradientStep(unroll.LeastSquares(A), 0.1), steps=3),
}


def data() -> tuple[Tensor, Tensor]:
    x, y = PROBLEM.batch(4, torch.Generator().manual_seed(1))
    return torch.zeros_like(x), y


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_compile_as_one_graph(name: str) -> None:
    torch.compiler.reset()
    solver, (x0, y) = RECIPES[name](), data()
    compiled = torch.compile(solver, fullgraph=True, backend="eager")
    expected, found = solver(x0, y).x, compiled(x0, y).x
    assert torch.equal(found, expected)
    parameters = list(solver.parameters())
    if parameters:
        for one, other in zip(
            torch.autograd.grad(found.square().sum(), parameters),
            torch.autograd.grad(expected.square().sum(), parameters),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_export_to_onnx_and_give_the_same_there(name: str, tmp_path: Path) -> None:
    import onnxruntime

    solver, (x0, y) = RECIPES[name]().eval(), data()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(solver, (x0, y), dynamic_shapes={"x0": {0: batch}, "data": {0: batch}})
    larger = (torch.cat([x0, x0]), torch.cat([y, -y]))
    with torch.no_grad():
        expected = solver(*larger).x
        torch.testing.assert_close(program.module()(*larger).x, expected)
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
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-6)


def test_jacobians_through_a_solver_are_those_of_its_closed_form() -> None:
    a = A.double()
    tau = 1 / float(torch.linalg.matrix_norm(a, 2)) ** 2
    solver = unroll.Unrolled(unroll.GradientStep(unroll.LeastSquares(a), tau), steps=5)
    basis = torch.linalg.qr(torch.randn(24, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    y = data()[1].double()
    x0 = torch.zeros(1, 24, dtype=torch.float64)

    def solve(one: Tensor) -> Tensor:
        return solver(x0, one[None], projector=unroll.Subspace(basis)).x[0]  # type: ignore[no-any-return]

    p = basis @ basis.T
    step = p @ (torch.eye(24, dtype=torch.float64) - tau * a.T @ a)
    expected = sum(torch.linalg.matrix_power(step, t) for t in range(5)) @ p @ (tau * a.T)
    torch.testing.assert_close(torch.func.jacrev(solve)(y[0]), expected)
    torch.testing.assert_close(torch.func.vmap(torch.func.jacrev(solve))(y), expected.expand(4, -1, -1))


# Maps of other libraries. Each is given with its dense matrix.

DENSE = np.random.default_rng(0).standard_normal((5, 7))


def _operator(matrix: Any) -> LinearOperator:
    return LinearOperator(
        matrix.shape, matvec=lambda v: matrix @ v, rmatvec=lambda v: matrix.conj().T @ v, dtype=matrix.dtype
    )


class Physics:
    """The interface of deepinv's linear physics: A and A_adjoint on (B, C, H, W)."""

    def __init__(self, adjoint: float = 1.0) -> None:
        self.kernel = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)[None, None]
        self.scale = adjoint

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        with torch.no_grad():  # as one made of numpy would be: its own gradient is not to be had
            return nn.functional.conv2d(x, self.kernel)

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        with torch.no_grad():
            return self.scale * nn.functional.conv_transpose2d(y, self.kernel)


OPERATORS: dict[str, tuple[Any, Any]] = {
    "numpy": (DENSE, DENSE),
    "sparse": (scipy.sparse.csr_array(DENSE), DENSE),
    "integers": (scipy.sparse.csc_matrix(np.rint(3 * DENSE).astype(int)), np.rint(3 * DENSE)),
    "LinearOperator": (_operator(DENSE), DENSE),
    "complex": (_operator(DENSE[:, :5] + 1j * DENSE[:, 2:]), DENSE[:, :5] + 1j * DENSE[:, 2:]),
    "PyLops": (pylops.MatrixMult(DENSE), DENSE),
    "PyLops, derivative": (pylops.FirstDerivative(7), pylops.FirstDerivative(7).todense()),
    "PyLops, product": (pylops.MatrixMult(DENSE) @ pylops.Diagonal(np.arange(7.0)), DENSE * np.arange(7.0)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_maps_of_other_libraries_are_their_matrices(name: str) -> None:
    operator, dense = OPERATORS[name]
    ours, matrix = unroll.LinearMap(operator), torch.from_numpy(np.asarray(dense))
    generator = torch.Generator().manual_seed(0)
    dtype = matrix.dtype
    x = torch.randn(2, 3, matrix.shape[1], dtype=dtype, generator=generator)
    y = torch.randn(2, 3, matrix.shape[0], dtype=dtype, generator=generator)
    assert ours.shape == matrix.shape
    torch.testing.assert_close(ours(x), x @ matrix.mT)
    torch.testing.assert_close(ours.adjoint(y), y @ matrix.conj())
    torch.testing.assert_close(ours(x[0, 0]), matrix @ x[0, 0])
    single = ours(x.to(torch.complex64 if dtype.is_complex else torch.float32))
    assert single.dtype == (torch.complex64 if dtype.is_complex else torch.float32)
    for function, point in ((ours, x), (ours.adjoint, y)):
        point = point[0, :2].requires_grad_()
        assert torch.autograd.gradcheck(function, point)
        assert torch.autograd.gradgradcheck(lambda v, f=function: f(v).abs().square(), point)
    torch.testing.assert_close(torch.func.vmap(ours, in_dims=1)(x), (x @ matrix.mT).movedim(1, 0))
    if not dtype.is_complex:
        torch.testing.assert_close(torch.func.jacrev(ours)(x[0, 0]), matrix)


def test_a_complex_map_of_real_signals_has_a_real_gradient() -> None:
    ours, dense = unroll.LinearMap(OPERATORS["complex"][0]), torch.from_numpy(OPERATORS["complex"][1])
    x, y = torch.ones(1, 5, dtype=torch.float64, requires_grad=True), torch.ones(1, 5, dtype=torch.complex128)
    (gradient,) = torch.autograd.grad(unroll.LeastSquares(ours)(x, y).sum(), x)
    torch.testing.assert_close(gradient, ((x.to(y.dtype) @ dense.mT - y) @ dense.conj()).real.detach())


def test_physics_with_an_adjoint_are_data_fidelities() -> None:
    physics = unroll.LinearMap(Physics())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 4, 5, dtype=torch.float64, generator=generator)
    y = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=generator)
    physics.dot_test(x)
    fidelity = unroll.LeastSquares(physics)
    assert torch.autograd.gradcheck(lambda v: fidelity(v, y), x.clone().requires_grad_())
    descent = unroll.Unrolled(unroll.GradientStep(fidelity, 0.05), steps=3)
    expected = x
    for _ in range(3):
        expected = expected - 0.05 * Physics().A_adjoint(Physics().A(expected) - y)
    torch.testing.assert_close(descent(x, y).x, expected)
    mapped = torch.func.vmap(lambda one, seen: descent(one[None], seen[None]).x[0])(x, y)
    torch.testing.assert_close(mapped, expected)


def test_solvers_run_on_the_maps_of_other_libraries() -> None:
    dense = torch.from_numpy(DENSE)
    y = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x0 = torch.zeros(2, 7, dtype=torch.float64)
    gradients = []
    for a in (dense, unroll.LinearMap(pylops.MatrixMult(DENSE))):
        solver = unroll.Unrolled(unroll.GradientStep(unroll.LeastSquares(a), 0.02), steps=300)
        x = solver(x0, y, projector=sets.NonNegative(), adjoint=unroll.Checkpointed()).x
        gradients.append(torch.autograd.grad(x.square().sum(), y)[0])
    torch.testing.assert_close(*gradients)
    # The primal-dual scheme takes the map and its adjoint: 1/2 ||x - y||^2 + 0.3 ||D x||_1.
    difference = unroll.LinearMap(scipy.sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(6, 7)))
    step = unroll.ProximalStep(lambda v, d, tau: (v + tau * d) / (1 + tau), 0.4)
    scheme = unroll.ChambollePock(difference, difference.adjoint, sigma=0.6)
    signal = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = unroll.Unrolled(step, steps=2000, scheme=scheme)(x0, signal, projector=unroll.SoftThreshold(0.3)).x
    torch.testing.assert_close(found, unroll.penalties.TotalVariation1d(0.3)(signal), rtol=0, atol=1e-8)


def test_wrong_maps_are_named() -> None:
    wrong = LinearOperator((5, 7), matvec=lambda v: DENSE @ v, rmatvec=lambda v: 1.01 * DENSE.T @ v, dtype=float)
    with pytest.raises(ValueError, match=r"A and its adjoint do not match: <A x, y> = .* and <x, A\^H y> = "):
        unroll.LinearMap(wrong)
    assert unroll.LinearMap(wrong, dot_test=False).shape == (5, 7)
    with pytest.raises(ValueError, match="do not match"):
        unroll.LinearMap(Physics(adjoint=2.0)).dot_test(torch.ones(1, 1, 4, 4, dtype=torch.float64))
    with pytest.raises(TypeError, match="no adjoint, or none that runs: give it rmatvec"):
        unroll.LinearMap(LinearOperator((5, 7), matvec=lambda v: DENSE @ v, dtype=float))
    with pytest.raises(TypeError, match="object is no linear map: pass a matrix"):
        unroll.LinearMap(object())
    ours = unroll.LinearMap(DENSE)
    with pytest.raises(ValueError, match=r"shape \(5, 7\) and takes signals of length 7 here, .* shape \(2, 5\)"):
        ours(torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"A has the shape \(5, 7\) and cannot take x of \(2, 6\)"):
        unroll.LeastSquares(torch.from_numpy(DENSE))(torch.ones(2, 6), torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"A x has the shape \(2, 5\) and the data \(1, 5\): they must agree"):
        unroll.LeastSquares(ours)(torch.ones(2, 7), torch.ones(1, 5))


# Copies and state.

STATE = {
    "ista": [],
    "fista": [],
    "lista": ["update.encoder", *(f"update.{k}.{t}" for k in ("mixing", "thresholds") for t in range(3))],
    "lista_cp": [f"update.updates.{t}.{k}" for t in range(3) for k in ("weights", "threshold")],
    "tilista": ["update.weights", *(f"update.{k}.{t}" for k in ("step_sizes", "thresholds") for t in range(3))],
    "alista": [f"update.updates.{t}.{k}" for t in range(3) for k in ("step_size", "threshold")],
    "gradient": [],
}


@pytest.mark.parametrize("name", RECIPES)
def test_state_dicts_are_what_the_documents_say_and_copies_solve_alike(name: str) -> None:
    solver, (x0, y) = RECIPES[name](), data()
    assert sorted(solver.state_dict()) == sorted(STATE[name])
    expected = solver(x0, y).x
    for twin in (copy.copy(solver), copy.deepcopy(solver), pickle.loads(pickle.dumps(solver))):
        assert torch.equal(twin(x0, y).x, expected)
    own = {p.data_ptr() for p in solver.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in copy.deepcopy(solver).parameters())
    wide = copy.deepcopy(solver).to(torch.float64)
    found = wide(x0.double(), y.double()).x
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-5)
    meta = copy.deepcopy(solver).to("meta")
    assert meta(x0.to("meta"), y.to("meta")).x.is_meta


def test_maps_survive_copies() -> None:
    ours, x = unroll.LinearMap(OPERATORS["sparse"][0]), torch.ones(1, 7)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours).to(torch.float64)):
        assert torch.equal(twin(x), ours(x))
    assert unroll.LeastSquares(torch.from_numpy(DENSE)).state_dict() == {}


def test_the_public_list_fits_one_screen() -> None:
    assert len(unroll.__all__) <= 60
    assert sorted(unroll.__all__) == unroll.__all__
