"""The whitening step and the moments: formulas, fixed point, bounds, sums over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from apps.style_transfer.learned.gram_step import FLOOR, Moments, matrix_roots, moments, whitening_step


def features(*shape: int, scale: float = 1.0, mean: float = 0.0, seed: int = 0) -> Tensor:
    return mean + scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rms(covariance: Tensor) -> Tensor:
    return (covariance.diagonal(dim1=-2, dim2=-1).mean(-1) + FLOOR).sqrt()[:, None, None, None]


def test_moments_are_mean_and_gram() -> None:
    f = features(2, 5, 4, 6, mean=1)
    rows = f.flatten(2).numpy()
    found = moments(f)
    np.testing.assert_allclose(found.mean[..., 0], rows.mean(-1), rtol=1e-12)
    np.testing.assert_allclose(found.gram, rows @ rows.swapaxes(1, 2) / 24, rtol=1e-12)
    for covariance, r in zip(found.covariance.numpy(), rows, strict=True):
        np.testing.assert_allclose(covariance, np.cov(r, bias=True), rtol=1e-10, atol=1e-12)


def test_moments_of_tiles_add_up_to_the_whole() -> None:
    f = features(1, 5, 7, 12)
    tiles = [f[..., :5], f[..., 5:]]
    sums = [(t.shape[2] * t.shape[3], moments(t)) for t in tiles]
    whole = moments(f)
    n = sum(count for count, _ in sums)
    for field in ("mean", "gram"):
        combined = sum(count * getattr(m, field) for count, m in sums) / n
        torch.testing.assert_close(combined, getattr(whole, field), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("condition", [1.0, 10.0, 50.0])
def test_matrix_roots_against_scipy(condition: float) -> None:
    q = torch.linalg.qr(features(6, 6)).Q
    k = q @ torch.diag(torch.logspace(0, -np.log10(condition), 6, dtype=torch.float64)) @ q.T
    root, inverse = (m[0].numpy() for m in matrix_roots(3 * k[None], ridge=0, iterations=12))
    expected = scipy.linalg.sqrtm(3 * k.numpy())
    np.testing.assert_allclose(root, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(inverse, np.linalg.inv(expected), rtol=0, atol=1e-4)


def test_six_iterations_suffice_for_eigenvalues_above_a_hundredth() -> None:
    k = torch.diag(torch.tensor([1.0, 0.5, 0.1, 0.03], dtype=torch.float64))[None]
    root, inverse = matrix_roots(k)
    torch.testing.assert_close(root[0].diagonal(), k[0].diagonal().sqrt(), rtol=0.05, atol=0)
    torch.testing.assert_close((root @ inverse)[0], torch.eye(4, dtype=torch.float64), rtol=0, atol=0.05)


def test_the_whitening_step_leads_to_the_moments_of_the_style() -> None:
    f, s = features(2, 6, 12, 12), features(2, 6, 9, 12, scale=2, mean=1, seed=1)
    now, style = moments(f), moments(s)
    reached = moments(f - (rms(now.covariance) + rms(style.covariance)) * whitening_step(f, style))
    torch.testing.assert_close(reached.mean, style.mean, rtol=1e-6, atol=1e-6)
    # As far as the ridge of 1e-3 lets it.
    assert float((reached.gram - style.gram).norm() / style.gram.norm()) < 2e-3


@pytest.mark.parametrize("smallest", [1.0, 1e-3])
def test_no_step_where_the_style_is_reached(smallest: float) -> None:
    """Even where the iterations leave a direction of small variance whitened in part."""
    f = features(2, 6, 12, 12, mean=0.5)
    f = f * torch.logspace(0, math.log10(smallest), 6, dtype=f.dtype)[:, None, None]
    assert float(whitening_step(f, moments(f)).abs().max()) < 1e-9


def test_steps_permute_with_the_batch(device: torch.device) -> None:
    f, s = (features(3, 4, 8, 8, seed=i).to(device) for i in (0, 1))
    style, order = moments(s), [2, 0, 1]
    permuted = whitening_step(f[order], Moments(style.mean[order], style.covariance[order]))
    torch.testing.assert_close(permuted, whitening_step(f, style)[order], rtol=1e-9, atol=1e-9)


HOSTILE = {
    "flat": torch.full((1, 4, 8, 8), 0.7),
    "black": torch.zeros(1, 4, 8, 8),
    "one pixel": torch.nn.functional.pad(torch.ones(1, 4, 1, 1), (3, 4, 3, 4)),
    "rank one": torch.linspace(0, 1, 64).view(1, 1, 8, 8).repeat(1, 4, 1, 1),
    "huge": 1e6 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
    "tiny": 1e-6 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("style", HOSTILE)
@pytest.mark.parametrize("image", HOSTILE)
def test_steps_are_finite_for_any_input(image: str, style: str) -> None:
    d = whitening_step(HOSTILE[image], moments(HOSTILE[style]))
    assert bool(d.isfinite().all())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_steps_do_not_grow_with_the_features(scale: float) -> None:
    f, s = features(1, 4, 16, 16), features(1, 4, 16, 16, seed=1)
    assert float(whitening_step(scale * f, moments(s)).abs().max()) < 10
    assert float(whitening_step(f, moments(scale * s)).abs().max()) < 10
