import numpy as np
import pytest
import torch
from graph_helpers import picture
from scipy import sparse
from scipy.sparse import linalg

import graphs
from apps.style_transfer import EXAMPLE_CONTENT, EXAMPLE_STYLE, read_image, resize
from graphs import _memory, _spectrum


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


def test_large_graphs_take_the_sparse_way(monkeypatch):
    laplacian = graphs.grid(picture(45, 46))
    called = []
    original = _spectrum.lowest_pairs
    monkeypatch.setattr(_spectrum, "lowest_pairs", lambda *a: called.append(1) or original(*a))
    values, vectors = graphs.eigenbasis(laplacian, 5, dtype=torch.float32)
    assert called
    assert vectors.dtype == values.dtype == torch.float32
    torch.testing.assert_close(laplacian.matvec(vectors), vectors * values, atol=1e-5, rtol=0)
    again = graphs.eigenbasis(laplacian, 5, dtype=torch.float32)
    assert torch.equal(again.vectors, vectors)


@pytest.mark.parametrize("content", [EXAMPLE_CONTENT, EXAMPLE_STYLE])
def test_pictures_have_the_eigenpairs_of_eigsh(content):
    """None of the lowest k is missed, and U_k spans the same space where there is a gap."""
    laplacian, k = graphs.matting(resize(read_image(content).rgb, 64)), 60
    values, vectors = graphs.eigenbasis(laplacian, k)
    matrix = sparse.csc_array(laplacian.to_scipy())
    peer, u = linalg.eigsh(matrix, k, sigma=-1e-6 * laplacian.lambda_max)
    np.testing.assert_allclose(values, peer, rtol=1e-3, atol=1e-9)
    # A component outside span(u) has at least the frequency of the k-th.
    outside = vectors.numpy()[:, : k // 2] - u @ (u.T @ vectors.numpy()[:, : k // 2])
    assert np.abs(outside).max() < 1e-6
    assert graphs.eigencount(laplacian, float(values[-1]) * 1.001, "exact").estimate >= k
    assert graphs.eigencount(laplacian, float(values[-1]) * 0.999, "exact").estimate < k


def test_tol_loosens_and_tightens_the_residuals():
    laplacian = graphs.matting(picture(45, 46))
    residuals = []
    for tol in (1e-3, 1e-6, 1e-10):
        values, vectors = graphs.eigenbasis(laplacian, 40, tol=tol)
        residuals.append(float((laplacian.matvec(vectors) - vectors * values).norm(dim=0).max()) / laplacian.lambda_max)
        assert residuals[-1] <= tol
    assert residuals[0] > residuals[1] > residuals[2]
    for tol in (0.0, -1.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="tol, relative to lambda_max"):
            graphs.eigenbasis(laplacian, 40, tol=tol)


def test_progress_is_shown_on_demand(capsys):
    laplacian = graphs.grid(picture(45, 46))
    quiet = graphs.eigenbasis(laplacian, 8)
    assert capsys.readouterr() == ("", "")
    shown = graphs.eigenbasis(laplacian, 8, progress=True)
    assert "eigenpairs" in capsys.readouterr().err
    assert torch.equal(quiet.vectors, shown.vectors)


def test_too_little_memory_is_refused_before_the_start(monkeypatch):
    for shape, size, what in (
        ((45, 46), 2.1e6, "a basis of 8 eigenvectors on 2070 nodes"),  # the factor would not fit beside the vectors
        ((45, 46), 1e6, "a basis of 8 eigenvectors on 2070 nodes"),
        ((10, 11), 1e5, "a dense eigenproblem of 110 nodes"),
    ):
        laplacian = graphs.grid(shape)
        with monkeypatch.context() as patch:
            patch.setattr(_memory, "available_memory", lambda size=size: size)
            with pytest.raises(MemoryError, match=f"{what} needs about .* GB of memory"):
                graphs.eigenbasis(laplacian, 8)


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


def test_the_exact_cutoff_lies_between_two_eigenvalues(laplacian, exact):
    for k in (1, 10, 0.25, 223):
        cutoff = graphs.cutoff_for(laplacian, k, "exact")
        assert (exact[0] <= cutoff).sum() == (56 if k == 0.25 else k)
    assert graphs.cutoff_for(laplacian, 224, "exact") == laplacian.lambda_max
    assert graphs.cutoff_for(graphs.grid((10, 10)), 2, "exact") == pytest.approx(2 - 2 * np.cos(np.pi / 10))  # twice
    with pytest.raises(ValueError, match="'stochastic' or 'exact', got 'guess'"):
        graphs.cutoff_for(laplacian, 10, "guess")


def test_the_exact_count_is_exact(laplacian, exact):
    for cutoff in (0.0, 0.01, 0.1):
        assert np.abs(exact[0] - cutoff).min() > 1e-6 or cutoff == 0
        assert graphs.eigencount(laplacian, cutoff, method="exact") == ((exact[0] <= cutoff + 1e-8).sum(), 0.0)
    with pytest.raises(ValueError, match="'stochastic' or 'exact', got 'guess'"):
        graphs.eigencount(laplacian, 0.1, "guess")
    with pytest.raises(ValueError, match="at least 0, got -1"):
        graphs.eigencount(laplacian, -1, "exact")
    with pytest.raises(ValueError, match="up to 100000 nodes; this graph has 102400: estimate instead"):
        graphs.eigencount(graphs.grid((320, 320)), 0.1, "exact")


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
