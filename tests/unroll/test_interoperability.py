"""The solvers among the tools that people have already: transforms, and the operators of other libraries."""

from __future__ import annotations

import copy
import pickle
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

A = recipes.SparseRecovery(m=12, n=24).matrix


def test_jacobians_through_a_solver_are_those_of_its_closed_form() -> None:
    a = A.double()
    tau = 1 / float(torch.linalg.matrix_norm(a, 2)) ** 2
    solver = unroll.Unrolled(unroll.GradientStep(unroll.LeastSquares(a), tau), steps=5)
    basis = torch.linalg.qr(torch.randn(24, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    y = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
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


def test_maps_survive_copies() -> None:
    ours, x = unroll.LinearMap(OPERATORS["sparse"][0]), torch.ones(1, 7)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours).to(torch.float64)):
        assert torch.equal(twin(x), ours(x))
    assert unroll.LeastSquares(torch.from_numpy(DENSE)).state_dict() == {}


def test_the_public_list_fits_one_screen() -> None:
    assert len(unroll.__all__) <= 60
    assert sorted(unroll.__all__) == unroll.__all__
