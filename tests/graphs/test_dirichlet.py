"""The projection onto bounded Dirichlet energy: against a dense solution, its derivative, its bad input."""

from __future__ import annotations

import logging

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

import graphs
from graphs import DirichletBall, Tikhonov, grid, matting


def image(h: int = 9, w: int = 8, *, seed: int = 0, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense_projection(laplacian: graphs.Laplacian, v: Tensor, energy: float) -> tuple[Tensor, float]:
    """Return P(v) of one signal (n, c) and mu, by dense algebra and a bracketing root finder."""
    values, vectors = torch.linalg.eigh(laplacian.to_dense().double())
    parts = vectors.T @ v

    def excess(mu: float) -> float:
        return float((values[:, None] * (parts / (1 + mu * values[:, None])) ** 2).sum()) - energy

    mu = brentq(excess, 0, 1e9, xtol=1e-13, rtol=1e-14)
    return vectors @ (parts / (1 + mu * values[:, None])), mu


@pytest.mark.parametrize("share", [0.9, 0.1, 1e-3])
def test_it_is_the_dense_projection_and_tikhonov_at_its_multiplier(share: float) -> None:
    laplacian, v = matting(image(), eps=1e-3), image(seed=1).flatten(2)[0].T.contiguous()
    energy = share * float(laplacian.quadratic(v))
    ball = DirichletBall(laplacian, energy / laplacian.n, rtol=1e-12)
    expected, mu = dense_projection(laplacian, v, energy)
    torch.testing.assert_close(ball(v), expected, rtol=0, atol=1e-9)
    assert float(ball.multiplier(v)) == pytest.approx(mu, rel=1e-7)
    torch.testing.assert_close(Tikhonov(laplacian, mu, rtol=1e-12)(v), expected, rtol=0, atol=1e-9)


def test_samples_of_a_batch_are_projected_each_by_itself_and_those_inside_stay_as_they_are() -> None:
    laplacian = matting(image(), eps=1e-3)
    v = torch.cat([image(seed=1), 1e-3 * image(seed=2), 0 * image(), 5 * image(seed=3)])
    ball = DirichletBall(laplacian, 1e-4, rtol=1e-10)
    found = ball(v)
    assert torch.equal(found[1:3], v[1:3])
    for x, expected in zip(found, v, strict=True):
        torch.testing.assert_close(x, ball(expected[None])[0], rtol=0, atol=1e-9)
    energies = laplacian.quadratic(found) / laplacian.n
    torch.testing.assert_close(energies[[0, 3]], torch.full((2,), 1e-4, dtype=torch.float64), rtol=1e-9, atol=0)
    mu = ball.multiplier(v)
    assert mu[1] == mu[2] == 0 < mu[0] < mu[3]


def test_gradcheck_inside_and_outside() -> None:
    laplacian = grid((3, 4))
    v = torch.rand(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    v[1] *= 1e-2
    ball = DirichletBall(laplacian, 0.02, rtol=1e-13)
    assert ball.multiplier(v)[0] > 0 == ball.multiplier(v)[1]
    assert torch.autograd.gradcheck(ball, (v.requires_grad_(),))


def test_a_tighter_tolerance_comes_nearer_and_the_energy_is_met_at_any() -> None:
    laplacian, v = matting(image(), eps=1e-3), image(seed=1)
    exact = DirichletBall(laplacian, 1e-5, rtol=1e-12)(v)
    errors = []
    for rtol in (1e-1, 1e-3, 1e-6):
        found = DirichletBall(laplacian, 1e-5, rtol=rtol)(v)
        assert float(laplacian.quadratic(found)) == pytest.approx(1e-5 * laplacian.n, rel=1e-4)
        errors.append(float((found - exact).norm() / v.norm()))
        assert errors[-1] <= rtol
    assert errors[0] > errors[1] > errors[2]


def test_the_default_tolerance_leaves_a_level_of_eight_bits_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    laplacian = matting(torch.rand(1, 3, 24, 20, dtype=torch.float64, generator=generator), eps=1e-4)
    v = 0.3 * torch.randn(1, 3, 24, 20, dtype=torch.float64, generator=generator)
    exact = DirichletBall(laplacian, 1e-3, rtol=1e-12)(v)
    assert float((DirichletBall(laplacian, 1e-3)(v) - exact).abs().max()) < 0.05 / 255


def test_single_precision_comes_close_to_double() -> None:
    laplacian, v = matting(image(), eps=1e-3), image(seed=1)
    ball = DirichletBall(laplacian, 1e-4, rtol=1e-5)
    found = ball(v.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), ball(v), rtol=0, atol=2e-4)


def test_giving_up_is_said(caplog: pytest.LogCaptureFixture) -> None:
    laplacian, v = matting(image(), eps=1e-3), image(seed=1)
    with caplog.at_level(logging.WARNING, logger="graphs"):
        DirichletBall(laplacian, 1e-6, rtol=1e-9, max_iter=3)(v)
    assert "stopped after 3 iterations (max_iter=3)" in caplog.text


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_a_radius_that_means_nothing_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="radius must be a positive number"):
        DirichletBall(grid((3, 4)), radius)
