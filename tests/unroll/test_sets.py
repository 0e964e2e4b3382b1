"""Projections against jaxopt, scipy and linear programs; large signals, ties, options, bad input."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import isotonic_regression, linear_sum_assignment
from torch import Tensor

import unroll
from unroll import sets

with warnings.catch_warnings():
    # jaxopt says on import that it is no longer developed.
    warnings.simplefilter("ignore")
    from jaxopt import projection

D = torch.float64


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=D, generator=torch.Generator().manual_seed(seed))


WEIGHTS, MATRIX = noise(6, seed=1).abs(), noise(3, 6, seed=2)
PEERS: dict[str, tuple[unroll.Projector, Callable[[Any], Any]]] = {
    "non-negative": (sets.NonNegative(), projection.projection_non_negative),
    "box": (sets.Box(-1.0, 2.0), lambda v: projection.projection_box(v, (-1.0, 2.0))),
    "hypercube": (sets.Hypercube(), projection.projection_hypercube),
    "simplex": (sets.Simplex(2.0), lambda v: projection.projection_simplex(v, 2.0)),
    "sparse simplex": (sets.SparseSimplex(2), lambda v: projection.projection_sparse_simplex(v, 2)),
    "l1 sphere": (sets.L1Sphere(2.0), lambda v: projection.projection_l1_sphere(v, 2.0)),
    "l1 ball": (sets.L1Ball(2.0), lambda v: projection.projection_l1_ball(v, 2.0)),
    "l2 sphere": (sets.L2Sphere(2.0), lambda v: projection.projection_l2_sphere(v, 2.0)),
    "l2 ball": (sets.L2Ball(2.0), lambda v: projection.projection_l2_ball(v, 2.0)),
    "linf ball": (sets.LinfBall(0.5), lambda v: projection.projection_linf_ball(v, 0.5)),
    "hyperplane": (
        sets.Hyperplane(WEIGHTS, 1.0),
        lambda v: projection.projection_hyperplane(v, (WEIGHTS.numpy(), 1.0)),
    ),
    "half-space": (
        sets.HalfSpace(WEIGHTS, -1.0),
        lambda v: projection.projection_halfspace(v, (WEIGHTS.numpy(), -1.0)),
    ),
    "affine set": (
        sets.AffineSet(MATRIX, MATRIX[:, 0]),
        lambda v: projection.projection_affine_set(v, (MATRIX.numpy(), MATRIX[:, 0].numpy())),
    ),
    "box section": (
        sets.BoxSection(-1.0, 2.0, WEIGHTS, 0.7),
        lambda v: projection.projection_box_section(v, (-np.ones(6), 2 * np.ones(6), WEIGHTS.numpy(), 0.7)),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), PEERS.values(), ids=list(PEERS))
def test_projections_are_those_of_jaxopt(ours: unroll.Projector, theirs: Callable[[Any], Any]) -> None:
    for v in 2 * noise(4, 6, seed=3):
        expected = torch.from_numpy(np.array(theirs(v.float().numpy()))).double()
        torch.testing.assert_close(ours(v), expected, rtol=1e-4, atol=1e-4)


def test_isotonic_regression_is_that_of_scipy() -> None:
    for v in (noise(5, 40), noise(5, 40).round(), 1e9 + noise(5, 40)):
        expected = torch.tensor(np.stack([isotonic_regression(row).x for row in v.numpy()]))
        torch.testing.assert_close(sets.Isotonic()(v), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e9])
def test_no_permutation_is_nearer_than_the_birkhoff_projection(scale: float) -> None:
    v = scale * noise(3, 8, 8)
    x = sets.Birkhoff(8)(v)
    torch.testing.assert_close(x.sum(-1), torch.ones(3, 8, dtype=D))
    torch.testing.assert_close(x.sum(-2), torch.ones(3, 8, dtype=D))
    for left, plan in zip((v - x).numpy(), x.numpy(), strict=True):
        i, j = linear_sum_assignment(-left)
        assert left[i, j].sum() <= (left * plan).sum() + 1e-11 * max(scale, 1)


def test_transport_plans_are_those_of_dykstra() -> None:
    # The oracle is Dykstra's algorithm on two sets, {X >= 0 : X 1 = a} and {X >= 0 : X^T 1 = b}, by projections onto
    # simplices in numpy. jaxopt is none: it stops where its sums are wrong by about 1 per cent, at 20 x 20 by 5e-4 for
    # sums of 0.05, and its plans are as far from these as that.
    def simplices(v: Any, totals: Any) -> Any:
        descending = -np.sort(-v, axis=1)
        sums = descending.cumsum(1) - totals[:, None]
        last = (descending * np.arange(1, v.shape[1] + 1) > sums).sum(1) - 1
        return np.maximum(v - (sums[np.arange(len(v)), last] / (last + 1))[:, None], 0)

    a, b = np.full(20, 0.05), np.linspace(0.02, 0.08, 20)
    v = 0.3 * noise(20, 20)
    x = v.numpy()
    given = [np.zeros_like(x), np.zeros_like(x)]
    for _ in range(4000):
        y = simplices(x + given[0], a)
        given[0] = x + given[0] - y
        x = simplices((y + given[1]).T, b).T
        given[1] = y + given[1] - x
    np.testing.assert_allclose(x.sum(1), a, atol=1e-12)
    ours = sets.TransportPolytope(torch.from_numpy(a), torch.from_numpy(b))(v)
    torch.testing.assert_close(ours, torch.from_numpy(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_sets_written_as_polyhedra_have_the_same_projection(scale: float) -> None:
    eye, ones = torch.eye(5, dtype=D), torch.ones(1, 5, dtype=D)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=D)] * 5)
    simplex = sets.Polyhedron(torch.cat([-eye, ones, -ones]), torch.tensor([0.0] * 5 + [1.0, -1.0], dtype=D))
    pairs = [
        (simplex, sets.Simplex()),
        (sets.Polyhedron(torch.cat([eye, -eye, eye]), torch.ones(15, dtype=D)), sets.LinfBall()),
        (sets.Polyhedron(signs, torch.ones(32, dtype=D)), sets.L1Ball()),
        (sets.BoxSection(0.0, torch.inf, ones[0], 1.0), sets.Simplex()),
        (sets.TransportPolytope(torch.ones(1, dtype=D), torch.full((5,), 0.2, dtype=D)), None),
    ]
    for v in (noise(7, 5), noise(7, 5).round(), torch.zeros(1, 5, dtype=D)):
        for one, other in pairs[:-1]:
            assert other is not None
            torch.testing.assert_close(one(scale * v), other(scale * v), rtol=0, atol=1e-12)
        only = pairs[-1][0](scale * v[:, None])
        torch.testing.assert_close(only, torch.full_like(only, 0.2))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("ends", ["both", "low", "none"])
def test_box_sections_are_those_of_a_long_bisection(scale: float, ends: str) -> None:
    # Weights and widths over orders of magnitude, of both signs, for which Newton's steps alone lead nowhere.
    w = noise(30, seed=1) * 10 ** (2 * noise(30, seed=2))
    low = noise(30, seed=3)
    high = low + 10 ** noise(30, seed=4) if ends == "both" else torch.full_like(low, torch.inf)
    low = torch.full_like(low, -torch.inf) if ends == "none" else low
    v, total = scale * noise(20, 30, seed=5), 0.3
    x = sets.BoxSection(low, high, w, total)(v)
    below, above = torch.full((20, 1), -1e12, dtype=D), torch.full((20, 1), 1e12, dtype=D)
    for _ in range(200):
        theta = (below + above) / 2
        large = ((v - theta * w).maximum(low).minimum(high) @ w)[:, None] > total
        below, above = torch.where(large, theta, below), torch.where(large, above, theta)
    nearest = (v - below * w).maximum(low).minimum(high)
    torch.testing.assert_close(x, nearest, rtol=1e-9, atol=1e-9 * max(scale, 1))
    assert bool(((x @ w - total).abs() <= 1e-13 * (x.abs() @ w.abs() + 1)).all())


def test_large_offsets_and_infinities_cost_no_digits() -> None:
    v = torch.tensor([1e9, 1e9 + 64, -torch.inf, 0.0])
    assert torch.equal(sets.Simplex()(v), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert torch.equal(sets.Simplex()(torch.full((4,), 1e9)), torch.full((4,), 0.25))
    assert torch.equal(sets.L1Ball()(torch.tensor([-1e9, 1e9])), torch.tensor([-0.5, 0.5]))
    assert torch.equal(sets.NonNegative()(-v.abs()), torch.zeros(4))
    assert torch.equal(sets.Simplex(0.0)(v), torch.zeros(4))
    torch.testing.assert_close(sets.L2Ball()(torch.tensor([3e9, 4e9])), torch.tensor([0.6, 0.8]))


def test_nearest_points_of_sets_that_are_not_convex_where_there_are_several() -> None:
    zero = torch.zeros(3, dtype=D)
    assert torch.equal(sets.L2Sphere(2.0)(zero), torch.tensor([2.0, 0.0, 0.0], dtype=D))
    torch.testing.assert_close(sets.L1Sphere(3.0)(zero), torch.ones(3, dtype=D))
    assert torch.equal(sets.Sparse(1)(torch.ones(3)).sum(), torch.tensor(1.0))
    torch.testing.assert_close(sets.SparseSimplex(2)(zero).sort().values, torch.tensor([0.0, 0.5, 0.5], dtype=D))


def test_derivatives_are_finite_where_eigenvalues_and_singular_values_are_equal() -> None:
    for operator in (sets.PSDCone(), sets.Stiefel(), unroll.penalties.NuclearNorm(0.5)):
        v = torch.eye(3, dtype=D, requires_grad=True)
        assert torch.autograd.gradcheck(operator, (v,), atol=1e-5)


def test_radii_and_totals_of_every_sample_are_taken_and_differentiated() -> None:
    v = 3 * noise(2, 6)
    radii = torch.tensor([[0.5], [2.0]], dtype=D)
    for kind in (sets.L1Ball, sets.L2Ball, sets.L1Sphere, sets.L2Sphere, sets.Simplex, sets.LinfBall):
        each = torch.stack([kind(float(radius))(row) for radius, row in zip(radii, v, strict=True)])
        torch.testing.assert_close(kind(radii)(v), each)

        def at(radius: Tensor, kind: Any = kind) -> Tensor:
            return torch.as_tensor(kind(radius)(v))

        assert torch.autograd.gradcheck(at, (radii.clone().requires_grad_(),))


def test_the_intersection_is_the_nearest_point_and_composition_is_not() -> None:
    ball, face = sets.L2Ball(1.0), sets.HalfSpace(torch.tensor([1.0, 1.0, 0.0], dtype=D), 0.5)
    v = torch.tensor([[2.0, 0.3, 0.7]], dtype=D)
    x = sets.Intersection([ball, face], tol=1e-12)(v)
    points = sets.L2Ball(1.0)(2 * noise(20000, 3))
    points = points[(points @ torch.tensor([1.0, 1.0, 0.0], dtype=D)) <= 0.5]
    assert float((points - v).norm(dim=1).min()) >= float((x - v).norm())
    assert float((unroll.Compose([ball, face])(v) - v).norm()) > float((x - v).norm()) + 1e-3
    torch.testing.assert_close(sets.Intersection([face])(v), face(v))


def test_searches_that_give_up_say_so(caplog: pytest.LogCaptureFixture) -> None:
    v = 3 * noise(4, 6, 6)
    stopped = [
        lambda: sets.Birkhoff(6, max_iter=1)(v),
        lambda: sets.Polyhedron(torch.cat([torch.eye(6), -torch.eye(6)]), torch.full((12,), 0.1), max_steps=1)(v),
        lambda: sets.Intersection([sets.L2Ball(), sets.Simplex()], tol=1e-14, max_iter=2)(v),
        lambda: unroll.penalties.TotalVariation2d(1.0, tol=1e-9, max_iter=2)(v),
    ]
    for run in stopped:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run()
        assert "stopped after" in caplog.text


def test_bad_input_is_named() -> None:
    one = torch.ones(3)
    for build, message in (
        (lambda: sets.L2Ball(-1.0), "at least 0"),
        (lambda: sets.Sparse(-1), "at least 0"),
        (lambda: sets.SparseSimplex(0), "at least 1"),
        (lambda: sets.Hyperplane(0 * one), "other than 0"),
        (lambda: sets.AffineSet(torch.ones(2, 3), torch.tensor([0.0, 1.0])), "no solution"),
        (lambda: sets.Polyhedron(torch.tensor([[1.0], [-1.0]]), -torch.ones(2)), "empty"),
        (lambda: sets.BoxSection(0.0, 1.0, one, 4.0), "empty"),
        (lambda: sets.TransportPolytope(one, 2 * one), "same sum"),
        (lambda: sets.GroupBall(4)(one), "do not fill"),
        (lambda: sets.GroupBall(torch.tensor([0, 1]))(one), "2 labels"),
        (lambda: sets.PSDCone()(torch.ones(2, 3)), "square"),
        (lambda: sets.Hyperplane(one)(torch.ones(2)), "last dimensions are"),
        (lambda: sets.Intersection([]), "at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    with pytest.raises(TypeError, match="convex"):
        sets.Intersection([sets.Sparse(1)])
    with pytest.raises(TypeError, match="real signals"):
        sets.Simplex()(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="floating-point"):
        sets.Simplex()(torch.ones(2, dtype=torch.int64))
