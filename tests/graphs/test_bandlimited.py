"""The front door of bandlimited projection: what it chooses, and whether the errors it names are those it has."""

import logging

import pytest
import torch
from graph_helpers import picture

import graphs
from graphs import _bandlimited


@pytest.fixture(scope="module")
def laplacian():
    return graphs.matting(picture(20, 24), eps=1e-4)


@pytest.fixture(scope="module")
def exact(laplacian):
    return graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, 30))


@pytest.mark.parametrize(
    ("method", "direct"),
    [
        ("exact", lambda L: graphs.BandlimitedProjector(graphs.eigenbasis(L, 30))),
        ("coarse", lambda L: graphs.CoarseLowPass(L, 30)),
        ("chebyshev", lambda L: graphs.ChebyshevLowPass(L, k=30)),
    ],
)
def test_each_method_is_the_operator_of_its_name(laplacian, method, direct, caplog):
    caplog.set_level(logging.INFO, "graphs")
    made, operator = graphs.Bandlimited(laplacian, 30, method=method), direct(laplacian)
    v = torch.randn(2, 3, 20, 24, dtype=torch.float64)
    assert torch.equal(made(v), operator(v))
    assert type(made.operator) is type(operator)
    assert (made.convex, made.linear, made.idempotent) == (operator.convex, operator.linear, operator.idempotent)
    assert caplog.messages == [f"bandlimited to k = 30 of 480 nodes: {method}"]
    assert repr(made).startswith(f"Bandlimited(\n  method='{method}', k=30")
    assert made.state_dict() == {}


def test_the_choice_is_by_size_and_kind(laplacian, monkeypatch):
    assert graphs.Bandlimited(laplacian, 30).method == "exact"
    assert graphs.Bandlimited(laplacian, 1 / 16).k == 30
    monkeypatch.setattr(_bandlimited, "EXACT_NODES", 400)
    assert graphs.Bandlimited(laplacian, 30).method == "coarse"
    for other in (graphs.grid((20, 24)), graphs.from_scipy(laplacian.to_scipy()), laplacian.normalized()):
        assert graphs.Bandlimited(other, 30).method == "chebyshev"
    monkeypatch.setattr(_bandlimited, "COARSE_K", 29)
    assert graphs.Bandlimited(laplacian, 30).method == "chebyshev"
    monkeypatch.setattr(_bandlimited, "EXACT_NODES", 480)
    monkeypatch.setattr(_bandlimited, "EXACT_NUMBERS", 480 * 30 - 1)
    assert graphs.Bandlimited(laplacian, 30).method == "chebyshev"


def test_options_count(laplacian):
    v = torch.randn(480, dtype=torch.float64)
    one, other = (graphs.Bandlimited(laplacian, 30, method="chebyshev", order=order)(v) for order in (10, 20))
    assert (one - other).abs().max() > 1e-3
    assert graphs.Bandlimited(laplacian, 30, dtype=torch.float32).operator.basis.dtype == torch.float32


@pytest.mark.parametrize("method", ["coarse", "chebyshev"])
def test_the_error_named_is_the_distance_to_the_exact_projection(laplacian, exact, method):
    made = graphs.Bandlimited(laplacian, 30, method=method)
    noise = torch.randn(480, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    true = float((made(noise) - exact(noise)).norm() / exact(noise).norm())
    assert made.distance(noise) == pytest.approx(true, rel=0.25)
    assert made.expected_error == pytest.approx(true, rel=0.35)
    assert made.expected_error > graphs.Bandlimited(laplacian, 30).expected_error == 1e-6


def test_bad_input(laplacian):
    with pytest.raises(ValueError, match="method must be 'auto', 'exact', 'coarse' or 'chebyshev', got 'lanczos'"):
        graphs.Bandlimited(laplacian, 30, method="lanczos")
    with pytest.raises(ValueError, match="from 1 to n = 480"):
        graphs.Bandlimited(laplacian, 481)
    with pytest.raises(ValueError, match="480 nodes"):
        graphs.Bandlimited(laplacian, 3)(torch.zeros(7))
