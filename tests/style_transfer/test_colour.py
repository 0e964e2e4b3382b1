"""Closed-form transfers of colour: the statistics they promise."""

from __future__ import annotations

import pytest
import torch
from style_helpers import draw
from torch import Tensor

from apps.style_transfer.colour import COLOUR_TRANSFERS, monge_kantorovich, reinhard


def covariance(image: Tensor) -> Tensor:
    return torch.cov(image[0].flatten(1), correction=0)


def test_monge_kantorovich_carries_mean_and_covariance_over() -> None:
    x, s = draw(20, 24).double(), draw(18, 30, phase=2.0, roughness=0.2).double()
    y = monge_kantorovich(x, s)
    torch.testing.assert_close(y.mean((2, 3)), s.mean((2, 3)))
    torch.testing.assert_close(covariance(y), covariance(s), atol=1e-5, rtol=0)


def test_monge_kantorovich_is_a_symmetric_positive_map() -> None:
    # y - mu_s = A (x - mu_c): A by least squares.
    x, s = draw(20, 24, roughness=0.3).double(), draw(18, 30, phase=2.0, roughness=0.2).double()
    rows = [(v - v.mean((2, 3), keepdim=True))[0].flatten(1).T for v in (x, monge_kantorovich(x, s))]
    a = torch.linalg.lstsq(*rows).solution
    torch.testing.assert_close(a, a.T, atol=1e-6, rtol=0)
    assert torch.linalg.eigvalsh(a).min() > 0


def test_reinhard_carries_mean_and_deviation_over_in_log_opponent_space() -> None:
    lms = torch.tensor(
        [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], dtype=torch.float64
    )
    opponent = torch.diag(torch.tensor([3.0, 6.0, 2.0], dtype=torch.float64) ** -0.5) @ torch.tensor(
        [[1.0, 1, 1], [1, 1, -2], [1, -1, 0]], dtype=torch.float64
    )
    x, s = draw(20, 24).double(), draw(18, 30, phase=2.0, roughness=0.2).double()
    axes = [opponent @ (lms @ v[0].flatten(1) + 1 / 255).log() for v in (reinhard(x, s), s)]
    torch.testing.assert_close(axes[0].mean(1), axes[1].mean(1))
    torch.testing.assert_close(axes[0].std(1), axes[1].std(1))


@pytest.mark.parametrize("name", COLOUR_TRANSFERS)
def test_its_own_colours_leave_a_picture_as_it_is(name: str) -> None:
    x = draw(20, 24)
    torch.testing.assert_close(COLOUR_TRANSFERS[name](x, x), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", COLOUR_TRANSFERS)
def test_a_flat_picture_takes_the_mean_of_the_style(name: str) -> None:
    flat, s = torch.full((1, 3, 8, 8), 0.5), draw(9, 9)
    y = COLOUR_TRANSFERS[name](flat, s)
    assert bool(y.isfinite().all())
    assert float(y.std((2, 3)).max()) < 1e-3
