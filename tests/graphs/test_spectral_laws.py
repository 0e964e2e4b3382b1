"""Every filter and projector on every kind of Laplacian, against dense spectral calculus."""

import pytest
import torch
from graph_helpers import every_kind

import graphs

KINDS = {name: laplacian for name, laplacian in every_kind().items() if laplacian.n > 1}
SPECTRA = {name: torch.linalg.eigh(laplacian.to_dense()) for name, laplacian in KINDS.items()}


def widest_gap(name):
    """Return the k <= n / 2 that no multiple eigenvalue straddles, by the widest gap above it."""
    values = SPECTRA[name][0]
    return int(values.diff()[: max(1, len(values) // 2)].argmax()) + 1


def step(name):
    return lambda values: (torch.arange(len(values)) < widest_gap(name)).to(values)


def bandlimited(make):
    return lambda name, laplacian: (make(laplacian, widest_gap(name)), step(name))


def answering(make):
    def built(name, laplacian):
        operator = make(laplacian)
        return operator, operator.response

    return built


OPERATORS = {
    "bandlimited": bandlimited(lambda L, k: graphs.BandlimitedProjector(graphs.eigenbasis(L, k))),
    "front door": bandlimited(lambda L, k: graphs.Bandlimited(L, k)),
    "low-pass": answering(lambda L: graphs.ChebyshevLowPass(L, cutoff=0.3 * L.lambda_max, order=12)),
    "tikhonov": answering(lambda L: graphs.Tikhonov(L, 100 / L.lambda_max, rtol=1e-12)),
    "smoothing": answering(lambda L: graphs.smoothing_step(L, 0.9, rtol=1e-12)),
    "heat": answering(lambda L: graphs.SpectralFilter.heat(L)),
    "expwin": answering(lambda L: graphs.SpectralFilter.expwin(L, order=30, damping=True)),
    "wavelet": answering(lambda L: graphs.FilterBank.meyer(L, 3).filters[1]),
    "callable": answering(lambda L: graphs.SpectralFilter(L, lambda x: torch.cos(3 * x / L.lambda_max))),
}
SMOOTHERS = [name for name in OPERATORS if name not in ("wavelet", "callable")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPERATORS)
def test_filters_are_functions_of_the_laplacian(kind, name, device):
    laplacian = KINDS[kind].normalized() if name == "smoothing" else KINDS[kind]
    operator, h = OPERATORS[name](kind, laplacian)
    operator = operator.to(device)
    values, vectors = torch.linalg.eigh(laplacian.to_dense()) if name == "smoothing" else SPECTRA[kind]
    response = h(values)
    x = torch.randn(laplacian.n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dense = vectors @ (response[:, None] * (vectors.T @ x))
    found, scale = operator(x.to(device)).cpu(), laplacian.lambda_max
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-8)
    torch.testing.assert_close(operator(x.float().to(device)).cpu().double(), dense, rtol=0, atol=1e-4)
    torch.testing.assert_close(operator(vectors.to(device)).cpu(), vectors * response, rtol=0, atol=1e-8)
    commuted = operator(laplacian.matvec(x).to(device)).cpu()
    torch.testing.assert_close(laplacian.matvec(found), commuted.detach(), rtol=0, atol=1e-8 * scale)
    # For 0 <= h <= 1 smoothing only smooths, and where h falls the Rayleigh quotient does, too.
    assert operator.convex == (name != "callable")
    energy, before = (float(laplacian.quadratic(s).detach()) for s in (found, x))
    if operator.convex:
        assert energy <= before * (1 + 1e-9)
    if name in SMOOTHERS:
        assert energy / found.detach().square().sum() <= before / x.square().sum() * (1 + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_on_every_kind(kind, device):
    laplacian = KINDS[kind]
    x = torch.randn(laplacian.n, 1, dtype=torch.float64, device=device, requires_grad=True)
    for apply in (
        laplacian.matvec,
        laplacian.quadratic,
        graphs.Tikhonov(laplacian, 10 / laplacian.lambda_max, rtol=1e-13),
        graphs.ChebyshevLowPass(laplacian, cutoff=0.3 * laplacian.lambda_max, order=5),
        graphs.SpectralFilter.heat(laplacian, order=5),
    ):
        assert torch.autograd.gradcheck(apply, x, fast_mode=True)


@pytest.mark.parametrize("kind", ["matting", "grid8", "knn", "edges"])
@pytest.mark.parametrize("name", ["low-pass", "tikhonov", "heat"])
def test_relabelled_nodes_get_relabelled_results(kind, name):
    laplacian = KINDS[kind]
    order = torch.randperm(laplacian.n, generator=torch.Generator().manual_seed(1))
    matrix = laplacian.to_scipy()
    moved = graphs.from_scipy(matrix[order.numpy()][:, order.numpy()])
    moved.lambda_max = laplacian.lambda_max  # another bound is another polynomial
    x = torch.randn(laplacian.n, 2, dtype=torch.float64)
    ours, theirs = (OPERATORS[name](kind, L)[0] for L in (laplacian, moved))
    torch.testing.assert_close(theirs(x[order]), ours(x)[order].detach(), rtol=0, atol=1e-9)
