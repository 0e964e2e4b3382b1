"""The laws that operators claim by ``convex``, ``idempotent`` and ``linear``, on every operator there is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import CASES, Case
from strategies import signals
from torch import Tensor

import unroll

BUILT = {name: (case, case.build()) for name, case in CASES.items()}
DRAWN = st.data()


def claiming(law: str) -> pytest.MarkDecorator:
    names = [name for name, (_, operator) in BUILT.items() if getattr(operator, law)]
    return pytest.mark.parametrize(("case", "operator"), [BUILT[name] for name in names], ids=names)


def having(field: str) -> pytest.MarkDecorator:
    names = [name for name, (case, _) in BUILT.items() if getattr(case, field) is not None]
    return pytest.mark.parametrize(("case", "operator"), [BUILT[name] for name in names], ids=names)


def inner(u: Tensor, v: Tensor) -> float:
    return float((u.conj() * v).sum().real)


def size(*tensors: Tensor) -> float:
    return 1 + max(float(t.abs().max()) for t in tensors)


@claiming("idempotent")
@given(data=DRAWN)
def test_projecting_twice_is_projecting_once(case: Case, operator: unroll.Operator, data: st.DataObject) -> None:
    v = data.draw(signals(case.shape, complex=case.complex))
    once = operator(v)
    assert float((operator(once) - once).abs().max()) <= case.rtol * size(v)


@having("contains")
@given(data=DRAWN)
def test_a_projection_is_in_the_set_and_nearest(case: Case, operator: unroll.Operator, data: st.DataObject) -> None:
    assert case.contains is not None
    v, z = (data.draw(signals(case.shape)) for _ in range(2))
    projected, other = operator(v), operator(z)
    assert case.contains(projected)
    # The obtuse angle is equivalent to being the nearest point of a convex set.
    assert inner(v - projected, other - projected) <= 1e-8 * size(v, z) ** 2 * v.numel()


@claiming("convex")
@given(data=DRAWN)
def test_proximal_operators_are_firmly_non_expansive(
    case: Case, operator: unroll.Operator, data: st.DataObject
) -> None:
    u, v = (data.draw(signals(case.shape, complex=case.complex)) for _ in range(2))
    p, q = operator(u), operator(v)
    slack = 10 * case.rtol * size(u, v) ** 2 * u.numel()
    assert inner(p - q, p - q) <= inner(p - q, u - v) + slack


@having("f")
@given(data=DRAWN, tau=st.sampled_from([0.1, 1.0, 5.0]))
def test_proximal_operators_minimise_their_objective(
    case: Case, operator: unroll.Operator, data: st.DataObject, tau: float
) -> None:
    assert case.f is not None
    v, direction = (data.draw(signals(case.shape, complex=case.complex)) for _ in range(2))
    x = operator(v, tau)

    def objective(z: Tensor) -> float:
        assert case.f is not None
        return float(case.f(z)) + inner(z - v, z - v) / (2 * tau)

    best = objective(x)
    for scale in (1e-3, 1.0):
        other = x + scale * direction / size(direction)
        assert best <= objective(other) + 1e-7 * (1 + abs(best))


@claiming("linear")
@given(data=DRAWN, a=st.floats(-2, 2))
def test_linear_operators_are_linear_and_self_adjoint(
    case: Case, operator: unroll.Operator, data: st.DataObject, a: float
) -> None:
    u, v = (data.draw(signals(case.shape, complex=case.complex)) for _ in range(2))
    p, q = operator(u), operator(v)
    scale = size(u, v)
    torch.testing.assert_close(operator(a * u + v), a * p + q, rtol=0, atol=10 * case.rtol * scale)
    assert abs(inner(p, v) - inner(u, q)) <= 10 * case.rtol * size(u) * size(v) * u.numel()


@pytest.mark.parametrize(("case", "operator"), BUILT.values(), ids=list(BUILT))
def test_shape_and_dtype_are_kept_and_the_argument_is_not_changed(case: Case, operator: unroll.Operator) -> None:
    for dtype in (torch.complex64, torch.complex128) if case.complex else (torch.float32, torch.float64):
        v = torch.randn(case.shape, dtype=dtype)
        before = v.clone()
        result = operator(v)
        assert (result.shape, result.dtype) == (v.shape, v.dtype)
        assert torch.equal(v, before)


@pytest.mark.parametrize(("case", "operator"), BUILT.values(), ids=list(BUILT))
def test_gradients_are_those_of_finite_differences(case: Case, operator: unroll.Operator) -> None:
    # Values away from the kinks of thresholds and boxes.
    v = torch.linspace(-2.87, 3.13, steps=torch.Size(case.shape).numel(), dtype=torch.float64).reshape(case.shape)
    v = (torch.complex(v, v.flip(-1)) if case.complex else v).requires_grad_()
    assert torch.autograd.gradcheck(operator, (v,), atol=1e-4)


def test_the_attributes_tell_operators_apart() -> None:
    # Where a law is not claimed it does not hold: counterexamples, so that the attributes mean something.
    v = torch.tensor([[3.0, -3.0, 0.3, 0.9, -0.2, 1.0]], dtype=torch.float64)
    box, composed = BUILT["box"][1], BUILT["composition"][1]
    assert not box.linear
    assert not torch.allclose(box(2 * v), 2 * box(v))
    assert not composed.idempotent
    assert not composed.convex
    assert not torch.allclose(composed(composed(v)), composed(v))
    image = torch.rand(1, 3, 6, 7, dtype=torch.float64)
    low_pass, around = BUILT["chebyshev"][1], BUILT["bandlimited around a guide"][1]
    assert not low_pass.idempotent
    assert not torch.allclose(low_pass(low_pass(image)), low_pass(image))
    assert not around.linear
    assert not torch.allclose(around(2 * image), 2 * around(image))
    threshold = BUILT["soft threshold"][1]
    assert not threshold.idempotent
    assert not torch.allclose(threshold(threshold(v)), threshold(v))
