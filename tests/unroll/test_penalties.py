"""Penalties against closed forms and one another; tau for each sample, parameters, the calculus, bad input."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unroll
from unroll import penalties, sets

with warnings.catch_warnings():
    # jaxopt says on import that it is no longer developed.
    warnings.simplefilter("ignore")
    from jaxopt import prox

D = torch.float64


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=D, generator=torch.Generator().manual_seed(seed))


OPERATORS = {
    "l1": (unroll.SoftThreshold(0.5), (6,)),
    "l2": (penalties.L2Norm(0.5), (6,)),
    "group l1": (penalties.GroupL1(2, 0.5), (6,)),
    "squared l2": (penalties.SquaredL2(0.5), (6,)),
    "elastic net": (penalties.ElasticNet(0.5), (6,)),
    "Huber": (penalties.Huber(0.5), (6,)),
    "log barrier": (penalties.LogBarrier(0.5), (6,)),
    "KL": (penalties.KullbackLeibler(1.5, 0.5), (6,)),
    "nuclear": (penalties.NuclearNorm(0.5), (4, 3)),
    "total variation": (penalties.TotalVariation1d(0.5), (6,)),
    "total variation of images": (penalties.TotalVariation2d(0.5, tol=1e-8), (3, 4)),
    "weighted": (penalties.Weighted(penalties.L2Norm(0.5), 2.0), (6,)),
    "rescaled": (penalties.Rescaled(penalties.L2Norm(0.5), 2.0), (6,)),
    "translated": (penalties.Translated(penalties.L2Norm(0.5), torch.ones(6)), (6,)),
    "perturbed": (penalties.QuadraticPerturbation(penalties.L2Norm(0.5), 0.3, 1.0), (6,)),
    "conjugate": (penalties.Conjugate(penalties.Huber(0.5)), (6,)),
    "separable": (penalties.Separable([penalties.L2Norm(), sets.L1Ball()], [2, 4]), (6,)),
}


@pytest.mark.parametrize(("operator", "shape"), OPERATORS.values(), ids=list(OPERATORS))
def test_tau_may_differ_between_samples_and_is_differentiated(
    operator: unroll.ProximalOperator, shape: tuple[int, ...]
) -> None:
    v, taus = 2 * noise(2, *shape), torch.tensor([0.3, 1.7], dtype=D).reshape(2, *[1] * len(shape))
    each = torch.stack([operator(row, float(tau)) for row, tau in zip(v, taus, strict=True)])
    torch.testing.assert_close(operator(v, taus), each, rtol=1e-6, atol=1e-6)
    assert float((each[0] - operator(v[0], 1.7)).abs().max()) > 1e-3
    assert torch.autograd.gradcheck(lambda tau: operator(v, tau), (taus.requires_grad_(),), atol=1e-4)


PEERS: dict[str, tuple[unroll.ProximalOperator, Callable[[Any, float], Any]]] = {
    "l1": (unroll.SoftThreshold(0.5), lambda v, tau: prox.prox_lasso(v, 0.5, tau)),
    "elastic net": (penalties.ElasticNet(0.5, 0.3), lambda v, tau: prox.prox_elastic_net(v, (0.5, 0.3), tau)),
    "l2": (penalties.L2Norm(0.5), lambda v, tau: prox.prox_group_lasso(v, 0.5, tau)),
    "squared l2": (penalties.SquaredL2(0.5), lambda v, tau: prox.prox_ridge(v, 0.5, tau)),
    "non-negative": (sets.NonNegative(), lambda v, tau: prox.prox_non_negative_lasso(v, 0.0, tau)),
}


@pytest.mark.parametrize(("ours", "theirs"), PEERS.values(), ids=list(PEERS))
def test_proximal_operators_are_those_of_jaxopt(
    ours: unroll.ProximalOperator, theirs: Callable[[Any, float], Any]
) -> None:
    for v in noise(4, 6, seed=3):
        for tau in (0.3, 2.0):
            expected = torch.from_numpy(np.array(theirs(v.float().numpy(), tau))).double()
            torch.testing.assert_close(ours(v, tau), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kind", [penalties.L2Norm, penalties.NuclearNorm, penalties.TotalVariation1d, penalties.TotalVariation2d]
)
def test_weights_are_learned(kind: type[unroll.ProximalOperator]) -> None:
    v = 2 * noise(2, 4, 3)
    weight = nn.Parameter(torch.tensor(0.5, dtype=D))
    operator = kind(weight)
    assert list(operator.parameters()) == [weight]
    (gradient,) = torch.autograd.grad(operator(v).square().sum(), weight)
    near = [float(kind(0.5 + step)(v).square().sum()) for step in (-1e-4, 1e-4)]
    assert abs(float(gradient) - (near[1] - near[0]) / 2e-4) < 1e-2 * abs(float(gradient))


def test_total_variation_satisfies_its_dual_and_agrees_with_that_of_one_row() -> None:
    for v in (noise(6, 50), noise(6, 50).round(), 1e9 * noise(6, 50)):
        x = penalties.TotalVariation1d(0.7)(v)
        # v - x = D^T u, |u| <= 0.7 and u = 0.7 sign(D x) where D x is not 0: necessary and sufficient.
        u = -(v - x).cumsum(-1)
        slack = 1e-12 * float(v.abs().max()) * 50
        assert float(u[:, -1].abs().max()) <= slack
        assert float(u.abs().max()) <= 0.7 + slack
        jumps = x.diff(dim=-1)
        assert float((u[:, :-1] - 0.7 * jumps.sign())[jumps.abs() > slack].abs().max()) <= slack
    v = noise(3, 1, 12)
    for isotropic in (True, False):
        image = penalties.TotalVariation2d(0.7, isotropic=isotropic, tol=1e-8)(v)
        torch.testing.assert_close(image, penalties.TotalVariation1d(0.7)(v), rtol=0, atol=1e-6)


def test_options_change_the_result() -> None:
    v = 2 * noise(1, 6, 6)
    assert not torch.allclose(penalties.TotalVariation2d(0.5)(v), penalties.TotalVariation2d(0.5, isotropic=False)(v))
    assert not torch.equal(penalties.TotalVariation2d(0.5, tol=0.1)(v), penalties.TotalVariation2d(0.5, tol=1e-4)(v))
    assert not torch.allclose(penalties.ElasticNet(0.5, 1.0)(v), penalties.ElasticNet(0.5, 2.0)(v))
    assert not torch.allclose(penalties.Huber(0.5, 0.1)(v), penalties.Huber(0.5, 0.2)(v))
    torch.testing.assert_close(penalties.ElasticNet(0.5, 0.0)(v), unroll.SoftThreshold(0.5)(v))
    torch.testing.assert_close(penalties.Huber(0.5, 1e9)(v), penalties.SquaredL2(0.5)(v))


def test_conjugates_in_closed_form() -> None:
    v = 3 * noise(4, 6)
    for tau in (0.3, 1.0, 2.0):
        torch.testing.assert_close(penalties.Conjugate(unroll.SoftThreshold(0.5))(v, tau), sets.LinfBall(0.5)(v))
        torch.testing.assert_close(penalties.Conjugate(penalties.L2Norm(0.5))(v, tau), sets.L2Ball(0.5)(v))
        torch.testing.assert_close(penalties.Conjugate(sets.L2Ball(0.5))(v, tau), penalties.L2Norm(0.5)(v, tau))
        twice = penalties.Conjugate(penalties.Conjugate(penalties.Huber(0.5)))
        torch.testing.assert_close(twice(v, tau), penalties.Huber(0.5)(v, tau))
        cone = penalties.Conjugate(sets.SecondOrderCone())(v, tau)
        torch.testing.assert_close(cone, -sets.SecondOrderCone()(-v))


def test_logarithms_do_not_cancel() -> None:
    v = torch.tensor([-1e9, -1e4, 0.0, 1e9])
    torch.testing.assert_close(penalties.LogBarrier(1.0)(v), torch.tensor([1e-9, 1e-4, 1.0, 1e9]))
    expected = torch.tensor([1e-9, 0.99990001e-4, 5**0.5 / 2 - 0.5, 1e9])
    torch.testing.assert_close(penalties.KullbackLeibler(1.0)(v), expected)
    w = torch.tensor([-1.0, 0.5, 1.0, 3.0], requires_grad=True)
    x = penalties.KullbackLeibler(0.0)(w)
    assert torch.equal(x, torch.tensor([0.0, 0.0, 0.0, 2.0]))
    assert bool(torch.autograd.grad(x.sum(), w)[0].isfinite().all())


def test_separable_takes_a_tuple_of_variables_of_any_shape() -> None:
    a, b = 2 * noise(2, 6), 2 * noise(2, 4, 3)
    x, y = penalties.Separable([penalties.L2Norm(0.5), penalties.NuclearNorm(0.5)])((a, b), 0.7)
    torch.testing.assert_close(x, penalties.L2Norm(0.5)(a, 0.7))
    torch.testing.assert_close(y, penalties.NuclearNorm(0.5)(b, 0.7))
    laws = penalties.Separable([sets.L2Ball(), sets.Sparse(1)])
    assert (laws.convex, laws.idempotent, laws.linear) == (False, True, False)


def test_a_denoiser_is_told_the_level_of_the_noise() -> None:
    v = noise(2, 6)
    assert torch.equal(penalties.Denoiser(torch.tanh)(v, 4.0), v.tanh())
    assert torch.equal(penalties.Denoiser(lambda z, level: z * level, sigma=0.5)(v, 4.0), v)
    assert not penalties.Denoiser(nn.Identity()).convex
    assert len(list(penalties.Denoiser(nn.Linear(6, 6)).parameters())) == 2


def test_bad_input_is_named() -> None:
    soft = unroll.SoftThreshold(0.5)
    for build, message in (
        (lambda: penalties.L2Norm(-1.0), "at least 0"),
        (lambda: penalties.Weighted(soft, 0.0), "above 0"),
        (lambda: penalties.Rescaled(soft, 0.0), "other than 0"),
        (lambda: penalties.QuadraticPerturbation(soft, -1.0), "at least 0"),
        (lambda: penalties.Translated(soft, torch.ones(2))(torch.ones(3)), "does not fit"),
        (lambda: penalties.Separable([soft], [2])(torch.ones(3)), "by its sizes"),
        (lambda: penalties.Separable([soft])((torch.ones(3), torch.ones(3))), "2 tensors"),
        (lambda: penalties.TotalVariation2d(max_iter=0), "max_iter"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    with pytest.raises(TypeError, match="convex"):
        penalties.Conjugate(sets.Sparse(1))
    with pytest.raises(TypeError, match="ProximalOperator"):
        penalties.Weighted(penalties.Denoiser(torch.tanh), 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="real signals"):
        penalties.LogBarrier()(torch.ones(2, dtype=torch.complex64))
