import copy
import math

import numpy as np
import pytest
import torch
from graph_helpers import picture

import graphs
from graphs import FilterBank, SpectralFilter
from graphs._polynomials import enclosure


@pytest.fixture(scope="module")
def laplacian():
    return graphs.matting(picture(9, 11), eps=1e-4)


@pytest.fixture(scope="module")
def spectrum(laplacian):
    values, vectors = np.linalg.eigh(laplacian.to_scipy().toarray())
    return torch.from_numpy(values.clip(0)), torch.from_numpy(vectors)


@pytest.fixture
def v():
    return torch.randn(99, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def dense(h, spectrum):
    values, vectors = spectrum
    return (vectors * h(values)) @ vectors.T


MADE = {
    "heat": lambda L, **o: SpectralFilter.heat(L, **o),
    "heat, longer": lambda L, **o: SpectralFilter.heat(L, 200.0, **o),
    "tikhonov": lambda L, **o: SpectralFilter.tikhonov(L, 20.0, **o),
    "expwin": lambda L, **o: SpectralFilter.expwin(L, **o),
    "expwin, a band": lambda L, **o: SpectralFilter.expwin(L, 0.1, 0.5, slope=3, **o),
    "a callable": lambda L, **o: SpectralFilter(L, lambda x: torch.sin(x) + 0.3 * x, **o),
    "a constant": lambda L, **o: SpectralFilter(L, lambda x: torch.tensor(0.7), **o),
}


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("name", MADE)
def test_filters_are_dense_spectral_calculus_to_the_tolerance(name, tolerance, laplacian, spectrum, v):
    made = MADE[name](laplacian, tolerance=tolerance)
    exact = dense(made.h, spectrum) @ v
    # max |p - h| is also the norm of p(L) - h(L).
    errors = torch.linalg.vector_norm(made(v) - exact, dim=0) / torch.linalg.vector_norm(v, dim=0)
    assert float(errors.max()) - 1e-13 <= made.error <= tolerance
    torch.testing.assert_close(made(v), dense(made.response, spectrum) @ v, rtol=0, atol=1e-11)
    if made.order:
        smaller = MADE[name](laplacian, tolerance=tolerance, order=made.order - 1)
        assert smaller.error > tolerance


@pytest.mark.parametrize("name", MADE)
def test_eigenvectors_are_scaled_and_the_laplacian_commutes(name, laplacian, spectrum, v):
    made = MADE[name](laplacian)
    values, vectors = spectrum
    torch.testing.assert_close(made(vectors), vectors * made.response(values), rtol=0, atol=1e-10)
    torch.testing.assert_close(made(laplacian.matvec(v)), laplacian.matvec(made(v)), rtol=0, atol=1e-10)
    if made.convex:
        assert float(laplacian.quadratic(made(v))) <= float(laplacian.quadratic(v))


def test_the_law_of_convexity_is_claimed_where_it_holds(laplacian, spectrum):
    convex = {name: MADE[name](laplacian).convex for name in MADE}
    assert convex == {name: name != "a callable" for name in MADE}
    assert not SpectralFilter(laplacian, lambda x: x).convex
    assert not SpectralFilter(laplacian, lambda x: 0.5 - x / laplacian.lambda_max).convex
    ringing = SpectralFilter.rectangular(laplacian, order=30, damping=False)
    assert not ringing.convex
    assert ringing.range[0] < -0.05
    assert ringing.range[1] > 1.05
    assert SpectralFilter.rectangular(laplacian, order=30).convex
    assert not SpectralFilter.heat(laplacian).idempotent


@pytest.mark.parametrize("seed", range(5))
def test_bounds_enclose_and_are_tight(seed):
    coefficients = np.random.default_rng(seed).standard_normal(4 ** (seed + 1))
    low, high = enclosure(coefficients)
    # The extremes lie at roots of the derivative, or at the ends; for high degrees, at a grid of another step.
    angles = np.linspace(0, math.pi, 200_001)
    if len(coefficients) <= 64:
        roots = np.polynomial.chebyshev.Chebyshev(coefficients).deriv().roots()
        angles = np.concatenate([angles, np.arccos(roots[np.isreal(roots)].real.clip(-1, 1))])
    values = np.polynomial.chebyshev.chebval(np.cos(angles), coefficients)
    assert low <= values.min() <= values.max() <= high
    assert values.min() - low + high - values.max() < 1e-3 * (high - low)


def test_ready_made_responses_are_those_of_pygsp(laplacian, spectrum):
    from pygsp import filters

    graph = laplacian.to_pygsp()
    graph._lmax = laplacian.lambda_max
    values = spectrum[0]
    pairs = [
        (SpectralFilter.heat(laplacian, 7.0), filters.Heat(graph, 7.0)),
        (SpectralFilter.rectangular(laplacian, order=9), filters.Rectangular(graph)),
        (SpectralFilter.rectangular(laplacian, 0.1, 0.4, order=9), filters.Rectangular(graph, 0.1, 0.4)),
        (SpectralFilter.rectangular(laplacian, 0.3, None, order=9), filters.Rectangular(graph, 0.3, None)),
        (SpectralFilter.expwin(laplacian), filters.Expwin(graph)),
        (SpectralFilter.expwin(laplacian, 0.3, None), filters.Expwin(graph, 0.3, None)),
        (SpectralFilter.expwin(laplacian, None, None), filters.Expwin(graph, None, None)),
        (SpectralFilter.expwin(laplacian, 0.1, 0.7, 5), filters.Expwin(graph, 0.1, 0.7, slope=5)),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.h(values), theirs.evaluate(values.numpy())[0], atol=1e-12)
    banks = [
        (FilterBank.meyer(laplacian), filters.Meyer(graph)),
        (FilterBank.meyer(laplacian, 3), filters.Meyer(graph, 3)),
        (FilterBank.itersine(laplacian), filters.Itersine(graph)),
        (FilterBank.itersine(laplacian, 5, overlap=4), filters.Itersine(graph, 5, overlap=4)),
    ]
    for ours, theirs in banks:
        exact = np.stack([f.h(values) for f in ours.filters])
        np.testing.assert_allclose(exact, theirs.evaluate(values.numpy()), atol=1e-12)
        np.testing.assert_allclose(ours.response(values), exact, atol=1e-3)


def test_chebyshev_filtering_is_that_of_pygsp(laplacian, v):
    from pygsp import filters

    graph = laplacian.to_pygsp()
    graph._lmax = laplacian.lambda_max
    theirs = filters.Heat(graph, 10).filter(v.numpy(), method="chebyshev", order=25)
    ours = SpectralFilter.heat(laplacian, 10, order=25, tolerance=1e-12)(v)
    np.testing.assert_allclose(ours, theirs, atol=1e-11)
    bank = FilterBank.itersine(laplacian, 3, order=60, tolerance=1e-12)
    theirs = filters.Itersine(graph, 3).filter(v.numpy(), method="chebyshev", order=60)
    np.testing.assert_allclose(bank.analyse(v).permute(1, 2, 0), theirs, atol=1e-3)  # theirs samples h at 61 points


def test_damped_steps_are_chebyshev_low_passes(laplacian, v):
    ours = SpectralFilter.rectangular(laplacian, None, 0.3, order=40)
    other = graphs.ChebyshevLowPass(laplacian, cutoff=0.3 * laplacian.lambda_max, order=40)
    torch.testing.assert_close(ours(v), other(v), rtol=0, atol=1e-3)
    full = SpectralFilter.rectangular(laplacian, None, None, order=5)
    torch.testing.assert_close(full(v), v)


def test_each_option_changes_the_filter(laplacian, v):
    base = SpectralFilter.heat(laplacian)
    for other in (
        SpectralFilter.heat(laplacian, 11.0),
        SpectralFilter.heat(laplacian, order=3),
        SpectralFilter.heat(laplacian, tolerance=1e-5),
        SpectralFilter.heat(laplacian, order=base.order, damping=True),
    ):
        assert float((other(v) - base(v)).abs().max()) > 1e-5
    banks = [FilterBank.itersine(laplacian, 4), FilterBank.itersine(laplacian, 4, overlap=3.0)]
    assert float((banks[0].analyse(v) - banks[1].analyse(v)).abs().max()) > 1e-2


def test_filters_add_scale_and_compose(laplacian, spectrum, v):
    f, g = SpectralFilter.heat(laplacian), SpectralFilter.expwin(laplacian)
    values = spectrum[0]
    for made, p, h in (
        (f + g, f.response(values) + g.response(values), lambda x: f.h(x) + g.h(x)),
        (f @ g, f.response(values) * g.response(values), lambda x: f.h(x) * g.h(x)),
        (0.5 * f, 0.5 * f.response(values), lambda x: 0.5 * f.h(x)),
        (g * -2, -2 * g.response(values), lambda x: -2 * g.h(x)),
    ):
        torch.testing.assert_close(made.response(values), p, rtol=0, atol=1e-12)
        torch.testing.assert_close(made.h(values), h(values))
        assert float((made.response(values) - made.h(values)).abs().max()) <= made.error < 5e-3
    torch.testing.assert_close((f @ g)(v), f(g(v)), rtol=0, atol=1e-12)
    torch.testing.assert_close((f + g)(v), f(v) + g(v), rtol=0, atol=1e-12)
    assert (f @ g).order == f.order + g.order
    assert ((f @ g).convex, (0.5 * f).convex, (0.5 * f + 0.5 * g).convex) == (True, True, True)
    assert ((f + g).convex, (-1 * f).convex) == (False, False)
    with pytest.raises(ValueError, match="on one Laplacian"):
        f + SpectralFilter.heat(graphs.grid((9, 11)))
    with pytest.raises(TypeError):
        f + 1
    with pytest.raises(TypeError):
        f * g
    with pytest.raises(TypeError):
        f @ v


def test_images_precision_and_devices(laplacian, device):
    made = SpectralFilter.heat(laplacian)
    x = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    exact = made(x)
    torch.testing.assert_close(exact.flatten(2)[1, 2], made(x[1, 2].flatten()))
    single = made(x.float().to(device))
    assert (single.dtype, single.device.type) == (torch.float32, device.type)
    torch.testing.assert_close(single.cpu().double(), exact, rtol=0, atol=1e-5)
    bank = FilterBank.meyer(laplacian, 3)
    torch.testing.assert_close(bank.analyse(x.float().to(device)).cpu().double(), bank.analyse(x), rtol=0, atol=1e-4)
    assert torch.equal(
        made.response(torch.tensor([0.0, 1.0])), made.response(torch.tensor([0.0, 1.0]).double()).float()
    )
    assert torch.equal(copy.deepcopy(made)(x), exact)


@pytest.mark.parametrize(
    "make", [FilterBank.meyer, FilterBank.itersine, lambda L: FilterBank.itersine(L, 5, overlap=3)]
)
def test_frame_bounds_are_the_extreme_singular_values(make, laplacian, spectrum, v):
    bank = make(laplacian)
    analysis = torch.cat([dense(f.response, spectrum) for f in bank.filters])
    squares = torch.linalg.svdvals(analysis).square()
    A, B = bank.frame_bounds
    assert A <= float(squares.min()) <= float(squares.max()) <= B
    assert float(squares.min()) - A < 0.02
    assert B - float(squares.max()) < 0.02
    coefficients = bank.analyse(v)
    assert coefficients.shape == (len(bank), 99, 2)
    torch.testing.assert_close(coefficients.flatten(0, 1), analysis @ v, rtol=0, atol=1e-11)
    torch.testing.assert_close(bank.synthesise(coefficients), analysis.T @ (analysis @ v), rtol=0, atol=1e-11)
    noise = torch.randn_like(coefficients)
    torch.testing.assert_close((noise * coefficients).sum(), (bank.synthesise(noise) * v).sum())


def test_tight_frames_give_the_signal_back(laplacian):
    x = torch.rand(1, 3, 9, 11, dtype=torch.float64)
    for bank in (FilterBank.meyer(laplacian), FilterBank.itersine(laplacian, overlap=4)):
        A, B = bank.frame_bounds
        assert B - A < 0.02
        torch.testing.assert_close(bank.synthesise(bank.analyse(x)), x, rtol=0, atol=0.02)
    # Filters that leave a gap make no frame.
    assert FilterBank([SpectralFilter.expwin(laplacian, None, 0.1, 5.0)]).frame_bounds[0] < 1e-6


def test_banks_of_one_order_zero_filter(laplacian, v):
    bank = FilterBank([SpectralFilter(laplacian, lambda x: torch.tensor(0.5))])
    assert bank.filters[0].order == 0
    torch.testing.assert_close(bank.analyse(v)[0], 0.5 * v)
    torch.testing.assert_close(bank.synthesise(bank.analyse(v)), 0.25 * v)
    assert bank.frame_bounds == pytest.approx((0.25, 0.25))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch itself, on its first jvp
def test_derivatives_of_banks(laplacian):
    bank = FilterBank.meyer(laplacian, 3, order=6)
    x = torch.randn(99, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bank.analyse, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(bank.analyse, x, fast_mode=True)
    c = torch.randn(3, 99, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bank.synthesise, c, fast_mode=True)
    assert torch.autograd.gradgradcheck(bank.synthesise, c, fast_mode=True)
    tangent = torch.randn_like(x)
    _, moved = torch.func.jvp(bank.analyse, (x.detach(),), (tangent,))
    torch.testing.assert_close(moved, bank.analyse(tangent))
    stack = torch.randn(4, 99, 2, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(bank.analyse)(stack)[2], bank.analyse(stack[2]))
    torch.testing.assert_close(torch.vmap(bank.analyse, in_dims=2)(stack.permute(1, 2, 0))[1], bank.analyse(stack[1]))
    coefficients = torch.randn(4, 3, 99, 2, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(bank.synthesise)(coefficients)[3], bank.synthesise(coefficients[3]))


def test_graphs_without_edges(v):
    empty = graphs.from_scipy(0 * graphs.grid((9, 11)).to_scipy())
    for made in (SpectralFilter.heat(empty), SpectralFilter.tikhonov(empty, 3.0)):
        torch.testing.assert_close(made(v), v, rtol=0, atol=5e-3)
    bank = FilterBank.meyer(empty)
    torch.testing.assert_close(bank.synthesise(bank.analyse(v)), v, rtol=0, atol=1e-2)


def test_smoothing_is_the_closed_form_of_li(laplacian, v):
    matrix = torch.from_numpy(laplacian.to_scipy().toarray())
    root = matrix.diagonal().sqrt()
    affinity = (torch.diag(matrix.diagonal()) - matrix) / root / root[:, None]
    for alpha in (0.5, 0.99):
        step = graphs.smoothing_step(laplacian, alpha, rtol=1e-12)
        exact = (1 - alpha) * torch.linalg.solve(torch.eye(99, dtype=torch.float64) - alpha * affinity, v)
        torch.testing.assert_close(step(v), exact, rtol=0, atol=1e-9)
        torch.testing.assert_close(step(root), root, rtol=0, atol=1e-9)
    for alpha in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\)"):
            graphs.smoothing_step(laplacian, alpha)


def nan_at_zero(x):
    return torch.sin(x) / x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda L: SpectralFilter(L, lambda x: (x > 1).double()), "no polynomial of order up to 4000 .* damping=True"),
        (lambda L: SpectralFilter(L, nan_at_zero), "h must be finite .* not at 0"),
        (
            lambda L: SpectralFilter(L, lambda x: x[:5]),
            r"to a real one of its shape \(32768,\), got torch.float64 of shape",
        ),
        (lambda L: SpectralFilter(L, lambda x: torch.exp(1j * x)), "got torch.complex128"),
        (lambda L: SpectralFilter.heat(L, order=-1), "from 0 to 4000, got -1"),
        (lambda L: SpectralFilter.heat(L, order=4001), "from 0 to 4000, got 4001"),
        (lambda L: SpectralFilter.heat(L, order=2.0), "from 0 to 4000, got 2.0"),
        (lambda L: SpectralFilter.heat(L, tolerance=0.0), "tolerance must be positive, got 0"),
        (lambda L: SpectralFilter.heat(L, -1), "scale must be .* got -1"),
        (lambda L: SpectralFilter.tikhonov(L, math.inf), "gamma must be .* got inf"),
        (lambda L: SpectralFilter.rectangular(L, 0.5, 0.2, order=3), "band_min < band_max, .* got 0.5 and 0.2"),
        (lambda L: SpectralFilter.expwin(L, slope=0), "slope must be a positive number, got 0"),
        (lambda L: FilterBank([]), "at least one filter"),
        (lambda L: FilterBank.meyer(L, 1), "at least 2 bands, got 1"),
        (lambda L: FilterBank.itersine(L, 0), "at least 1 band, got 0"),
        (lambda L: FilterBank.itersine(L, 3, overlap=4), r"overlap must lie in \[1, bands \+ 1 = 4\), got 4"),
        (lambda L: FilterBank.meyer(L, 2).synthesise(torch.zeros(3, 99)), "has 2 filters, the coefficients"),
        (lambda L: FilterBank.meyer(L, 2).analyse(torch.zeros(98)), "99 nodes, the signal"),
        (
            lambda L: FilterBank([SpectralFilter.heat(L), SpectralFilter.heat(graphs.grid((9, 11)))]),
            "on one Laplacian",
        ),
    ],
)
def test_bad_input(make, message, laplacian):
    with pytest.raises(ValueError, match=message):
        make(laplacian)
