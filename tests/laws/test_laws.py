"""The laws that operators claim by ``convex``, ``idempotent`` and ``linear``, on every operator there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import registry
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import CASES, Case
from strategies import signals
from torch import Tensor

import graphs
import unroll

BUILT = {name: (case, case.build()) for name, case in CASES.items()}
DRAWN = st.data()


def claiming(law: str) -> pytest.MarkDecorator:
    names = [name for name, (_, operator) in BUILT.items() if getattr(operator, law)]
    return pytest.mark.parametrize(("case", "operator"), [BUILT[name] for name in names], ids=names)


def having(field: str) -> pytest.MarkDecorator:
    names = [name for name, (case, _) in BUILT.items() if getattr(case, field) is not None]
    return pytest.mark.parametrize(("case", "operator"), [BUILT[name] for name in names], ids=names)


def noise(case: Case, *, seed: int) -> Tensor:
    dtype = torch.complex128 if case.complex else torch.float64
    return 3 * torch.randn(case.shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


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


@having("set")
@given(data=DRAWN, tau=st.sampled_from([0.1, 1.0, 5.0]))
def test_a_projection_is_in_the_set_and_nearest(
    case: Case, operator: unroll.Operator, data: st.DataObject, tau: float
) -> None:
    assert case.set is not None
    v, z = (data.draw(signals(case.shape, complex=case.complex)) for _ in range(2))
    projected, other = operator(v, tau), case.set.point(z)
    assert case.set.contains(projected)
    assert case.set.contains(other)
    slack = case.rtol * size(v, other) ** 2 * v.numel()
    if operator.convex:
        # The obtuse angle is equivalent to being the nearest point of a convex set, whatever tau.
        assert inner(v - projected, other - projected) <= slack
    else:
        assert inner(v - projected, v - projected) <= inner(v - other, v - other) + slack


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
    v, z = (data.draw(signals(case.shape, complex=case.complex)) for _ in range(2))
    x = operator(v, tau)
    # (v - x) / tau is a subgradient of f at x: x minimises f(z) + ||z - v||^2 / (2 tau), with no squares that cancel.
    for other in (z, v, 0.9 * x, 1.1 * x, x + z / size(z)):
        gain = tau * float(case.f(other) - case.f(x))
        assert inner(v - x, other - x) <= gain + case.rtol * size(v, other) ** 2 * v.numel()


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
def test_shape_dtype_and_argument_are_kept_even_under_autocast(case: Case, operator: unroll.Operator) -> None:
    for dtype in (torch.complex64, torch.complex128) if case.complex else (torch.float32, torch.float64):
        v = torch.randn(case.shape, dtype=dtype)
        before = v.clone()
        result = operator(v)
        assert (result.shape, result.dtype) == (v.shape, v.dtype)
        assert torch.equal(v, before)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(operator(v), result)


@pytest.mark.parametrize(("case", "operator"), BUILT.values(), ids=list(BUILT))
def test_samples_of_a_batch_do_not_meet(case: Case, operator: unroll.Operator) -> None:
    generator = torch.Generator().manual_seed(0)
    dtype = torch.complex128 if case.complex else torch.float64
    one, other = (scale * torch.randn(case.shape, dtype=dtype, generator=generator) for scale in (1.0, 100.0))
    apart = torch.cat([operator(one), operator(other)])
    torch.testing.assert_close(operator(torch.cat([one, other])), apart, rtol=0, atol=100 * case.rtol)


@pytest.mark.parametrize(("case", "operator"), BUILT.values(), ids=list(BUILT))
def test_gradients_are_those_of_finite_differences(case: Case, operator: unroll.Operator) -> None:
    # Noise is away from the kinks, and its matrices have full rank.
    v = noise(case, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(operator, (v,), atol=1e-4, fast_mode=True)


OURS = [name for name, (_, operator) in BUILT.items() if type(operator).__module__.startswith("unroll")]


@pytest.mark.parametrize("name", OURS)
def test_vmap_is_one_more_dimension_of_the_batch(name: str) -> None:
    case, operator = BUILT[name]
    v = torch.stack([noise(case, seed=seed) for seed in range(3)], dim=1)
    mapped = torch.func.vmap(operator, in_dims=1)(v)
    each = torch.stack([operator(part) for part in v.unbind(1)])
    torch.testing.assert_close(mapped, each, rtol=0, atol=100 * case.rtol)
    (back,) = torch.func.vjp(torch.func.vmap(operator, in_dims=1), v)[1](each)
    _, expected = torch.autograd.functional.vjp(lambda w: torch.stack([operator(x) for x in w.unbind(1)]), v, each)
    torch.testing.assert_close(back, expected, rtol=0, atol=1e3 * case.rtol)


# The points of these are as large as the signal, and satisfy their equations to its digits only.
UNBOUNDED = {"hyperplane", "half-space", "affine set", "polyhedron", "intersection"}


@pytest.mark.parametrize("name", OURS)
def test_signals_of_1e9_and_offsets_of_1e9_cost_no_digits(name: str) -> None:
    case, operator = BUILT[name]
    large = 1e9 * noise(case, seed=3)
    for v in (large, 1e9 * torch.sgn(large), 1e9 + noise(case, seed=4)):
        x = operator(v)
        if case.set is not None and name not in UNBOUNDED:
            assert case.set.contains(x)
        for other in (v, 0.9 * x, 1.1 * x, 0 * x) if case.f is not None else ():
            assert case.f is not None
            rounding = 1e-13 * float(v.abs().max() * (other - x).abs().max()) * v.numel()
            gain = float(case.f(other) - case.f(x))
            assert inner(v - x, other - x) <= gain + rounding + 1e-9 * abs(float(case.f(x)))


def test_every_operator_is_registered_and_every_projector_has_its_set() -> None:
    nouns = {unroll.Operator, unroll.ProximalOperator, unroll.Projector}
    rooms = (unroll, unroll.sets, unroll.penalties, graphs)
    public = {getattr(room, name) for room in rooms for name in room.__all__}
    operators = {c for c in public if isinstance(c, type) and issubclass(c, unroll.Operator)} - nouns
    assert operators <= {type(operator) for _, operator in BUILT.values()}
    for name, (case, operator) in BUILT.items():
        # A projector is idempotent, be its set convex or not; other proximal operators are those of convex functions.
        projector = isinstance(operator, unroll.Projector)
        assert operator.convex or projector or not isinstance(operator, unroll.ProximalOperator), name
        assert operator.idempotent or not projector, name
        assert (case.set is not None) == operator.idempotent, name


def test_every_set_and_penalty_says_what_it_takes_costs_and_comes_from() -> None:
    for room in (unroll.sets, unroll.penalties):
        for name in room.__all__:
            said = (getattr(room, name).__doc__ or "").lower()
            assert "shape" in said, name
            assert "cost" in said or "o(n" in said, name
            assert "source" in said, name
            assert re.search("projection onto|prox of|denoiser", said), name


def test_a_new_projector_is_the_class_and_the_line_of_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "your_own.md").read_text()
    (code,) = re.findall(r"^class Even.*?(?=^v = )", page, re.DOTALL | re.MULTILINE)
    (line,) = re.findall(r'^    "even": (Case.*),$', page, re.MULTILINE)
    names = {**vars(registry), "torch": torch, "unroll": unroll}
    exec(code, names)
    case = eval(line, names)
    operator, v = case.build(), noise(case, seed=0)
    assert (operator.convex, operator.idempotent, operator.linear) == (True, True, True)
    assert case.set.contains(operator(v))
    assert case.set.contains(case.set.point(v))
    assert not case.set.contains(v)


UNCLAIMED = [(n, law) for n, (_, o) in BUILT.items() for law in ("idempotent", "linear") if not getattr(o, law)]


@pytest.mark.parametrize(("name", "law"), UNCLAIMED)
def test_a_law_that_is_not_claimed_does_not_hold(name: str, law: str) -> None:
    case, operator = BUILT[name]
    u, v = noise(case, seed=1), noise(case, seed=0)
    once = operator(v)
    # Additivity: a projection onto a cone is homogeneous.
    broken = float((operator(once) - once if law == "idempotent" else operator(u + v) - operator(u) - once).abs().max())
    if law == "linear":  # or it is linear and not self-adjoint
        broken = max(broken, abs(inner(operator(u), v) - inner(u, once)))
    assert broken > 1e-4


NON_CONVEX = [name for name, (_, operator) in BUILT.items() if operator.idempotent and not operator.convex]


@pytest.mark.parametrize("name", NON_CONVEX)
def test_projections_onto_sets_that_are_not_convex_are_not_firmly_non_expansive(name: str) -> None:
    case, operator = BUILT[name]

    def breach(seed: int) -> float:
        # Far from the origin and near it, where projections onto spheres expand.
        u, v = noise(case, seed=seed), noise(case, seed=seed + 1000)
        u, v = (u, u + 0.3 * v) if seed % 2 else (0.1 * u, 0.1 * v)
        p, q = operator(u), operator(v)
        return inner(p - q, p - q) - inner(p - q, u - v)

    assert max(breach(seed) for seed in range(300)) > 1e-3


def test_one_projector_after_another_is_not_a_proximal_operator() -> None:
    # Two lines of the plane at 135 degrees: the composition has a negative inner product with its argument.
    first, second = torch.tensor([[1.0], [0.0]]), torch.tensor([[-1.0], [1.0]]) / 2**0.5
    composed = unroll.Compose([unroll.Subspace(first), unroll.Subspace(second)])
    v = torch.tensor([1.0, 2.0])
    assert not composed.convex
    assert inner(composed(v), v) < 0 < inner(composed(v), composed(v))
