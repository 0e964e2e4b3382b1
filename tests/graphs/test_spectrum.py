import numpy as np
import pytest
import torch
from graph_helpers import picture

import graphs
from graphs import _spectrum


@pytest.fixture(scope="module")
def laplacian():
    return graphs.matting(picture(14, 16), eps=1e-4)


@pytest.fixture(scope="module")
def exact(laplacian):
    return np.linalg.eigh(laplacian.to_scipy().toarray())


def gap(U, V):
    """The distance of two subspaces."""
    return float(np.linalg.norm(U @ U.T - V @ V.T, 2))


@pytest.mark.parametrize("k", [1, 10, 0.25, 224])
def test_eigenbasis_is_that_of_numpy(laplacian, exact, k):
    values, vectors = graphs.eigenbasis(laplacian, k)
    count = k if isinstance(k, int) else 56
    assert vectors.shape == (224, count)
    np.testing.assert_allclose(values, exact[0][:count], atol=1e-10)
    assert gap(vectors.numpy(), exact[1][:, :count]) < 1e-6


def test_shift_invert_is_numpy_too(laplacian, exact):
    values, vectors = _spectrum._shift_invert(laplacian.to_scipy(), 20, laplacian.lambda_max)
    np.testing.assert_allclose(values, exact[0][:20], atol=1e-9)
    assert gap(vectors, exact[1][:, :20]) < 1e-6


def test_large_graphs_take_the_sparse_way(monkeypatch):
    laplacian = graphs.grid(picture(40, 41))
    called = []
    original = _spectrum._shift_invert
    monkeypatch.setattr(_spectrum, "_shift_invert", lambda *a: called.append(1) or original(*a))
    values, vectors = graphs.eigenbasis(laplacian, 5, dtype=torch.float32)
    assert called
    assert vectors.dtype == values.dtype == torch.float32
    torch.testing.assert_close(laplacian.matvec(vectors), vectors * values, atol=1e-5, rtol=0)
    again = graphs.eigenbasis(laplacian, 5, dtype=torch.float32)
    assert torch.equal(again.vectors, vectors)


def test_disconnected_graphs_have_their_whole_kernel():
    points = np.concatenate([np.random.default_rng(i).standard_normal((30, 2)) + 100 * i for i in range(3)])
    laplacian = graphs.knn(points, 4)
    values, vectors = _spectrum._shift_invert(laplacian.to_scipy(), 4, laplacian.lambda_max)
    assert (np.abs(values[:3]) < 1e-9).all()
    assert values[3] > 1e-6
    assert gap(vectors[:, :3], np.kron(np.eye(3), np.ones((30, 1)) / np.sqrt(30))) < 1e-6


def test_unconverged_eigenpairs_are_refused(laplacian, monkeypatch):
    monkeypatch.setattr(_spectrum.scipy.linalg, "eigh", lambda *a, **k: (np.zeros(3), np.eye(224)[:, :3]))
    with pytest.raises(RuntimeError, match=r"missed their tolerance: residual .* try a smaller k than 3"):
        graphs.eigenbasis(laplacian, 3)


@pytest.mark.parametrize("k", [0, -1, 225, 1.5, 0.0, True, "3"])
def test_bad_k(laplacian, k):
    for function in (graphs.eigenbasis, graphs.cutoff_for):
        with pytest.raises(ValueError, match="from 1 to n = 224 or a fraction"):
            function(laplacian, k)


def test_counts_are_near_the_truth(laplacian, exact):
    for cutoff in (0.01, 0.1, 1.0):
        truth = (exact[0] <= cutoff).sum()
        count = graphs.eigencount(laplacian, cutoff, probes=64)
        assert abs(count.estimate - truth) < 4 * count.standard_error + 2
    assert graphs.eigencount(laplacian, laplacian.lambda_max).estimate == pytest.approx(224, rel=1e-3)


def test_a_count_is_the_trace_of_the_filter(laplacian, exact):
    """Against dense spectral calculus: the same polynomial, its exact trace."""
    low_pass = graphs.ChebyshevLowPass(laplacian, cutoff=0.5, order=40)
    trace = float(low_pass.response(torch.from_numpy(exact[0])).sum())
    count = graphs.eigencount(laplacian, 0.5, order=40, probes=400)
    assert abs(count.estimate - trace) < 4 * count.standard_error
    assert count.standard_error < 2


def test_cutoff_and_count_are_inverse(laplacian, exact):
    cutoffs = [graphs.cutoff_for(laplacian, k) for k in (10, 30, 90)]
    assert cutoffs == sorted(cutoffs)
    for k, cutoff in zip((10, 30, 90), cutoffs, strict=True):
        assert graphs.eigencount(laplacian, cutoff).estimate == pytest.approx(k, rel=1e-2)
        assert (exact[0] <= cutoff).sum() == pytest.approx(k, rel=0.25, abs=3)
    assert graphs.cutoff_for(laplacian, 224) == laplacian.lambda_max
    assert graphs.cutoff_for(laplacian, 0.5) == graphs.cutoff_for(laplacian, 112)


def test_options_of_the_count_count(laplacian):
    base = graphs.eigencount(laplacian, 0.1)
    assert graphs.eigencount(laplacian, 0.1) == base
    assert graphs.eigencount(laplacian, 0.1, seed=1) != base
    assert graphs.eigencount(laplacian, 0.1, probes=16) != base
    assert graphs.eigencount(laplacian, 0.1, order=20) != base
    state = torch.get_rng_state()
    graphs.cutoff_for(laplacian, 10, order=20)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="at least 2, got 1 and 8"):
        graphs.eigencount(laplacian, 0.1, order=1)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        graphs.eigencount(laplacian, -1)
