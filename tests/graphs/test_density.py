import itertools

import numpy as np
import pytest
import torch
from graph_helpers import picture
from scipy import sparse

import graphs
from graphs import _inertia
from graphs._inertia import inertia_count


@pytest.fixture(scope="module")
def laplacian():
    return graphs.matting(picture(14, 16), eps=1e-4)


@pytest.fixture(scope="module")
def eigenvalues(laplacian):
    return np.linalg.eigvalsh(laplacian.to_scipy().toarray())


def integral(values, places):
    return float(torch.trapezoid(torch.from_numpy(values), torch.from_numpy(places)))


def test_density_and_distribution_are_those_of_the_eigenvalues(laplacian, eigenvalues):
    found = graphs.spectral_density(laplacian, 1000, order=300, probes=64)
    frequencies, density, cumulative, error = (part.numpy() for part in found)
    assert integral(density, frequencies) == pytest.approx(1, abs=1e-3)
    truth = (eigenvalues[:, None] <= frequencies).mean(axis=0)
    # The step at each eigenvalue is smoothed: compare the mean over the smoothing, and the middle.
    assert np.abs(cumulative - truth).max() < 0.02
    assert np.abs(cumulative - truth).mean() < 4 * error.mean() + 2e-3
    assert (np.diff(cumulative) > -1e-9).all()
    assert (density > -1e-6 * density.max()).all()
    # A histogram of eight bins, exact, against the integral of the density over each.
    edges = np.linspace(0, laplacian.lambda_max, 9)
    exact = np.histogram(eigenvalues, edges)[0] / len(eigenvalues)
    estimated = [
        integral(np.where((frequencies >= a) & (frequencies < b), density, 0), frequencies)
        for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(estimated, exact, atol=0.03)


def test_density_is_the_derivative_of_the_distribution(laplacian):
    frequencies = torch.linspace(0.5, 8, 2001, dtype=torch.float64)
    found = graphs.spectral_density(laplacian, frequencies, order=60)
    assert torch.equal(found.frequencies, frequencies)
    slope = np.gradient(found.cumulative.numpy(), frequencies.numpy())
    np.testing.assert_allclose(found.density.numpy()[1:-1], slope[1:-1], rtol=1e-3, atol=1e-5)


def test_the_distribution_is_the_count_of_eigenvalues(laplacian):
    found = graphs.spectral_density(laplacian, torch.tensor([0.3, 2.0]))
    for cutoff, fraction in zip((0.3, 2.0), found.cumulative, strict=True):
        assert laplacian.n * float(fraction) == pytest.approx(graphs.eigencount(laplacian, cutoff).estimate, rel=1e-6)


def test_options_of_the_density_count(laplacian):
    def curve(**options):
        return graphs.spectral_density(laplacian, torch.linspace(0.1, 8, 50), **options).density

    assert torch.equal(curve(), curve())
    state = torch.get_rng_state()
    for options in ({"order": 50}, {"probes": 3}, {"seed": 1}):
        assert float((curve(**options) - curve()).abs().max()) > 1e-3
    assert torch.equal(torch.get_rng_state(), state)
    assert len(graphs.spectral_density(laplacian, 7).frequencies) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 1}, "at least 2, got 1 and 8"),
        ({"probes": 1}, "at least 2, got 400 and 1"),
        ({"frequencies": 0}, "at least 1, got 0"),
        ({"frequencies": torch.tensor([-1.0])}, r"within \(0, lambda_max"),
        ({"frequencies": torch.ones(2, 2)}, r"within \(0, lambda_max"),
    ],
)
def test_bad_options_of_the_density(options, message, laplacian):
    with pytest.raises(ValueError, match=message):
        graphs.spectral_density(laplacian, **options)


def test_no_density_without_edges():
    with pytest.raises(ValueError, match="no edges"):
        graphs.spectral_density(graphs.from_scipy(sparse.csr_array((4, 4))))


def test_inertia_counts_exactly(laplacian, eigenvalues):
    for cutoff in [0.0, *np.geomspace(1e-4, 8, 30)]:
        try:
            found = inertia_count(laplacian, cutoff)
        except RuntimeError:  # the factors were spoilt, and it said so
            continue
        assert found.margin <= 1e-6 * laplacian.lambda_max
        assert (eigenvalues <= cutoff - found.margin).sum() <= found.below
        assert found.below <= (eigenvalues <= cutoff + found.margin).sum()
    assert inertia_count(laplacian, laplacian.lambda_max) == (laplacian.n, 0.0)


def test_inertia_counts_multiplicities():
    points = np.concatenate([np.random.default_rng(i).standard_normal((30, 2)) + 100 * i for i in range(3)])
    assert inertia_count(graphs.knn(points, 4), 0.0).below == 3
    ring = graphs.from_scipy(sparse.csr_array(np.eye(6) * 2 - np.roll(np.eye(6), 1, 0) - np.roll(np.eye(6), -1, 0)))
    for cutoff, count in ((0.0, 1), (0.9, 1), (1.1, 3), (2.9, 3), (3.1, 5), (3.9, 5)):  # 2 - 2 cos(pi j / 3)
        assert inertia_count(ring, cutoff).below == count


def test_spoilt_factors_are_refused(laplacian, monkeypatch):
    with pytest.raises(ValueError, match="at least 0, got -1"):
        inertia_count(laplacian, -1)
    original = _inertia.symmetric_factor
    monkeypatch.setattr(_inertia, "symmetric_factor", lambda m: original(m + 1e-3 * sparse.eye_array(m.shape[0])))
    with pytest.raises(RuntimeError, match=r"factors miss their matrix by .* estimate by eigencount"):
        inertia_count(laplacian, 0.5)
    monkeypatch.setattr(_inertia, "symmetric_factor", lambda m: sparse.linalg.splu(sparse.csc_array(m)))
    with pytest.raises(RuntimeError, match="left the diagonal"):
        inertia_count(laplacian, 0.5)
    monkeypatch.undo()
    # The first pivot, 1 - cutoff, is zero to the last digit.
    edge = graphs.from_scipy(sparse.csr_array([[1.0, -1.0], [-1.0, 1.0]]))
    with pytest.raises(RuntimeError, match="eigencount"):
        inertia_count(edge, 1 - 2e-9)
