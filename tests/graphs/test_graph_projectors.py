import copy
import logging
import math

import numpy as np
import pytest
import torch
from graph_helpers import picture

import graphs
import unroll

H, W = 12, 15


@pytest.fixture(scope="module")
def laplacian():
    return graphs.matting(picture(H, W), eps=1e-4)


@pytest.fixture(scope="module")
def spectrum(laplacian):
    values, vectors = torch.linalg.eigh(torch.from_numpy(laplacian.to_scipy().toarray()))
    return values.clamp_min(0), vectors


def calculus(spectrum, h, v):
    """h(L) v on (B, C, H, W) by the dense eigendecomposition."""
    values, vectors = (s.to(v.device) for s in spectrum)
    planes = v.double().reshape(-1, H * W)
    return ((planes @ vectors) * h(values) @ vectors.T).reshape(v.shape)


@pytest.fixture
def operators(laplacian):
    return {
        "bandlimited": graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, 20)),
        "chebyshev": graphs.ChebyshevLowPass(laplacian, k=20, order=60),
        "tikhonov": graphs.Tikhonov(laplacian, 50.0, rtol=1e-12),
        "jacobi": graphs.Tikhonov(graphs.from_scipy(laplacian.to_scipy()), 50.0, rtol=1e-12),
    }


NAMES = ["bandlimited", "chebyshev", "tikhonov", "jacobi"]


def images(device="cpu", dtype=torch.float64):
    return torch.randn(2, 3, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device, dtype)


def test_bandlimited_is_the_dense_projection(spectrum, laplacian, device):
    v = images(device)
    expected = calculus(spectrum, lambda values: (torch.arange(len(values)) < 20).to(values), v)
    basis = graphs.eigenbasis(laplacian, 20)
    for operator in (graphs.BandlimitedProjector(basis), graphs.BandlimitedProjector(basis.vectors)):
        assert isinstance(operator, unroll.Projector)
        torch.testing.assert_close(operator.to(device)(v), expected)


def test_bandlimited_ignores_autocast(laplacian):
    operator = graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, 20))
    v = images(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(operator(v), operator(v))
        assert operator(v).dtype == torch.float32
        under = operator(v)
    assert torch.equal(under, operator(v))


@pytest.mark.parametrize("order", [1, 2, 7, 40])
def test_chebyshev_is_its_polynomial(spectrum, laplacian, order, device):
    operator = graphs.ChebyshevLowPass(laplacian, cutoff=0.3, order=order)
    v = images(device)
    torch.testing.assert_close(operator(v), calculus(spectrum, operator.response, v))
    coefficients = operator._coefficients
    x = np.linspace(0, laplacian.lambda_max, 50)
    expected = np.polynomial.chebyshev.chebval(2 * x / laplacian.lambda_max - 1, coefficients)
    np.testing.assert_allclose(operator.response(torch.from_numpy(x)), expected, atol=1e-12)


@pytest.mark.parametrize("order", [1, 5, 30, 200])
@pytest.mark.parametrize("fraction", [1e-4, 0.01, 0.3, 0.99, 1.0])
def test_the_response_lies_in_0_1_and_falls(laplacian, order, fraction):
    operator = graphs.ChebyshevLowPass(laplacian, cutoff=fraction * laplacian.lambda_max, order=order)
    response = operator.response(torch.linspace(0, laplacian.lambda_max, 2001, dtype=torch.float64))
    assert response.min() > -1e-12
    assert response.max() < 1 + 1e-12


def test_the_chosen_order_keeps_the_mean(laplacian):
    for k in (5, 20, 60):
        operator = graphs.ChebyshevLowPass(laplacian, k=k)
        assert 0.99 < operator.response(torch.zeros(())) <= 1 + 1e-6
    assert graphs.ChebyshevLowPass(laplacian, k=5).order > graphs.ChebyshevLowPass(laplacian, k=60).order


def test_chebyshev_tends_to_the_projector(spectrum, laplacian):
    values = spectrum[0]
    k = int((values[6:60] - values[5:59]).argmax()) + 6
    cutoff = float(values[k - 1] + values[k]) / 2
    v = images()
    exact = graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, k))(v)
    errors = [
        float((graphs.ChebyshevLowPass(laplacian, cutoff=cutoff, order=order)(v) - exact).norm() / exact.norm())
        for order in (25, 100, 400, 1600)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05


def test_chebyshev_finds_the_cutoff_of_k(laplacian, spectrum):
    operator = graphs.ChebyshevLowPass(laplacian, k=20)
    assert operator.cutoff == graphs.cutoff_for(laplacian, 20)
    assert float(operator.response(spectrum[0]).sum()) == pytest.approx(20, rel=0.3)
    fraction = graphs.ChebyshevLowPass(laplacian, k=20 / (H * W))
    assert fraction.cutoff == operator.cutoff
    assert not any(b.numel() for b in operator.buffers())


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_tikhonov_is_the_dense_solve(laplacian, gamma, tau, device):
    v = images(device)
    matrix = torch.eye(H * W, dtype=torch.float64) + tau * gamma * torch.from_numpy(laplacian.to_scipy().toarray())
    expected = torch.linalg.solve(matrix.to(device), v.reshape(6, -1).T).T.reshape(v.shape)
    found = graphs.Tikhonov(laplacian, gamma, rtol=1e-10)(v, tau)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)
    coarse = graphs.Tikhonov(laplacian, gamma, rtol=1e-3)(v, tau)
    errors = (coarse - expected).flatten(2).norm(dim=2) / v.flatten(2).norm(dim=2)
    assert errors.max() <= 1e-3
    torch.testing.assert_close(
        graphs.Tikhonov(laplacian, gamma, rtol=1e-8)(v.float(), tau).double(), expected, rtol=1e-4, atol=1e-5
    )


def test_tikhonov_minimises_its_objective(laplacian):
    v = images().requires_grad_(False)
    x = graphs.Tikhonov(laplacian, 30.0, rtol=1e-12)(v, 2.0).requires_grad_()
    objective = 2.0 * 30.0 / 2 * laplacian.quadratic(x).sum() + 0.5 * ((x - v) ** 2).sum()
    (gradient,) = torch.autograd.grad(objective, x)
    assert gradient.abs().max() < 1e-8


def test_tikhonov_options_count_and_it_says_when_it_stops(laplacian, caplog):
    v = images()
    with caplog.at_level(logging.WARNING, "graphs"):
        full = graphs.Tikhonov(laplacian, 1e4)(v)
        assert not caplog.records
        short = graphs.Tikhonov(laplacian, 1e4, max_iter=2)(v)
    (record,) = caplog.records
    assert "after 2 iterations (max_iter=2)" in record.getMessage()
    assert not torch.equal(full, short)
    assert not torch.equal(full, graphs.Tikhonov(laplacian, 1e4, rtol=1e-2)(v))
    assert not torch.equal(full, graphs.Tikhonov(laplacian, 1e3)(v))
    assert torch.equal(graphs.Tikhonov(laplacian, 1.0)(torch.zeros_like(v)), torch.zeros_like(v))
    with caplog.at_level(logging.WARNING, "graphs"):
        assert graphs.Tikhonov(laplacian, 1.0)(v * math.nan).isnan().all() or caplog.records[1:]


def test_a_warm_start_saves_iterations_and_changes_nothing_else(laplacian, monkeypatch):
    iterations = []
    step = graphs.Tikhonov._precondition
    monkeypatch.setattr(graphs.Tikhonov, "_precondition", lambda *a: iterations.append(0) or step(*a))
    operator = graphs.Tikhonov(laplacian, 1e3, rtol=1e-6)
    exact = graphs.Tikhonov(laplacian, 1e3, rtol=1e-13)
    v = images()
    near = exact(v + 1e-4 * v.flip(0))
    for start in (near, 0 * v, 1e3 * v.flip(-1), near.float()):
        found = operator.solve(v, start=start)
        assert ((found - exact(v)).flatten(2).norm(dim=2) <= 1e-6 * v.flatten(2).norm(dim=2)).all()
    torch.testing.assert_close(operator.solve(v, 0.5, start=near), operator(v, 0.5), rtol=0, atol=1e-5)
    spent = []
    for start in (None, near, exact(v)):
        iterations.clear()
        operator.solve(v, start=start)
        spent.append(len(iterations))
    assert spent[2] == 0 < 2 * spent[1] < spent[0]
    kept = near.clone(), v.clone()
    operator.solve(v, start=near)
    assert torch.equal(near, kept[0])
    assert torch.equal(v, kept[1])
    with pytest.raises(
        ValueError, match=r"start must have the shape \(2, 3, 12, 15\) of the signal, got \(3, 12, 15\)"
    ):
        operator.solve(v, start=v[0])


def test_derivatives_of_a_warm_start_are_those_of_the_solution(laplacian):
    operator = graphs.Tikhonov(laplacian, 10.0, rtol=1e-12)
    v = torch.randn(H * W, 2, dtype=torch.float64).requires_grad_()
    start = torch.randn_like(v).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: operator.solve(v, start=start.detach()), v, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda v: operator.solve(v, start=start.detach()), v, fast_mode=True)
    gradients = torch.autograd.grad(operator.solve(v, start=start).square().sum(), (v, start))
    assert gradients[1].abs().max() == 0
    torch.testing.assert_close(gradients[0], 2 * operator(operator(v.detach())))
    stack = torch.randn(3, H * W, 2, dtype=torch.float64)
    mapped = torch.vmap(lambda v: operator.solve(v, start=start.detach()))(stack)
    torch.testing.assert_close(mapped[1], operator(stack[1]))


def test_the_error_of_a_solution_is_bounded_and_the_bound_is_tight(laplacian):
    operator, exact = (graphs.Tikhonov(laplacian, 1e3, rtol=rtol) for rtol in (1e-3, 1e-13))
    v = images()
    for tau in (1.0, 0.1):
        for x in (operator(v, tau), v, 0 * v, graphs.SpectralFilter.tikhonov(laplacian, tau * 1e3, order=50)(v)):
            true = (x - exact(v, tau)).flatten(2).norm(dim=2) / v.flatten(2).norm(dim=2)
            bound = operator.error(x, v, tau)
            residual = x + tau * 1e3 * laplacian.matvec(x) - v
            slack = 2e-3 * residual.flatten(2).norm(dim=2) / v.flatten(2).norm(dim=2)
            assert bound.shape == (2, 3)
            assert (true <= bound + 1e-12).all()
            assert (bound <= true + slack + 1e-12).all()
    assert (operator.error(operator(v), v) <= 1e-3).all()
    columns = v.reshape(6, -1).T
    torch.testing.assert_close(operator.error(columns, columns), operator.error(v, v).flatten())
    torch.testing.assert_close(operator.error(columns[:, 2], columns[:, 2]), operator.error(v, v)[0, 2])
    assert operator.error(0 * v, 0 * v).abs().max() == 0
    with pytest.raises(ValueError, match="signals of one shape"):
        operator.error(v[0], v)


def test_tikhonov_has_its_response(laplacian, spectrum):
    operator = graphs.Tikhonov(laplacian, 50.0, rtol=1e-12)
    torch.testing.assert_close(operator(images()), calculus(spectrum, operator.response, images()))
    assert operator.response(torch.tensor([0.0, 0.02])).tolist() == pytest.approx([1, 0.5])


def test_the_distance_of_a_low_pass_is_that_to_the_projection(laplacian, spectrum):
    values = spectrum[0]
    k = int((values[6:60] - values[5:59]).argmax()) + 6
    operator = graphs.ChebyshevLowPass(laplacian, cutoff=float(values[k - 1] + values[k]) / 2)
    v = images()
    exact = graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, k))(v)
    assert operator.distance(v) == pytest.approx(float((operator(v) - exact).norm() / exact.norm()), rel=0.25)
    assert operator.sharper().order == 16 * operator.order
    assert operator.sharper().cutoff == operator.cutoff
    finer = graphs.ChebyshevLowPass(laplacian, cutoff=operator.cutoff, order=8 * operator.order)
    assert finer.sharper().order == 128 * operator.order
    assert finer.distance(v) < operator.distance(v) / 2


def test_the_coarse_space_pays():
    """The count of iterations, not the clock: with a budget that suffices only for the two-level cycle."""
    laplacian = graphs.matting(picture(48, 50))
    v = torch.randn(1, 1, 48, 50, dtype=torch.float64)
    exact = graphs.Tikhonov(laplacian, 1e3, rtol=1e-10)(v)
    for source, converged in ((laplacian, True), (graphs.from_scipy(laplacian.to_scipy()), False)):
        signal = v if source.grid_shape else v.reshape(-1, 1)
        found = graphs.Tikhonov(source, 1e3, max_iter=60)(signal).reshape(v.shape)
        assert ((found - exact).norm() < 1e-4 * v.norm()) == converged


@pytest.mark.parametrize("name", NAMES)
def test_signals_of_every_shape_and_dtype(operators, name, device):
    operator = operators[name].to(device)
    v = images(device)
    columns = v.reshape(6, -1).T
    expected = operator(columns)
    assert expected.shape == columns.shape
    torch.testing.assert_close(operator(columns[:, 0]), expected[:, 0])
    if name != "jacobi":
        torch.testing.assert_close(operator(v).reshape(6, -1).T, expected)
        channels_last = v.to(memory_format=torch.channels_last)
        torch.testing.assert_close(operator(channels_last), operator(v))
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 3e-2)):
        found = operator(columns.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    kept = v.clone()
    operator(columns)
    assert torch.equal(v, kept)
    assert operator.state_dict() == {}


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(operators, name, device):
    operator = operators[name].to(device)
    v = images(device).reshape(6, -1).T[:, :2].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(operator, v, fast_mode=True)
    assert torch.autograd.gradgradcheck(operator, v, fast_mode=True)
    u = torch.randn_like(v)
    (pulled,) = torch.autograd.grad((operator(v) * u).sum(), v)
    torch.testing.assert_close(pulled, operator(u))


@pytest.mark.parametrize("name", NAMES)
def test_operators_can_be_copied_after_use(operators, name):
    operator = operators[name]
    v = images().reshape(6, -1).T
    expected = operator(v)
    assert torch.equal(copy.deepcopy(operator)(v), expected)


def test_operators_of_one_pixel_wide_and_unit_grids():
    for shape in ((1, 9), (9, 1), (4, 4)):
        laplacian = graphs.grid(shape)
        v = torch.randn(1, 2, *shape, dtype=torch.float64)
        matrix = np.eye(math.prod(shape)) + 7 * laplacian.to_scipy().toarray()
        expected = np.linalg.solve(matrix, v.reshape(2, -1).numpy().T).T
        np.testing.assert_allclose(graphs.Tikhonov(laplacian, 7.0, rtol=1e-12)(v).reshape(2, -1), expected, atol=1e-9)


@pytest.mark.parametrize("name", NAMES[:3])
def test_around_projects_on_the_affine_set(operators, name, device):
    inner, guide, v = operators[name].to(device), images(device)[:1], images(device) + 1
    operator = graphs.Around(inner, guide).to(device)
    assert (operator.convex, operator.idempotent, operator.linear) == (True, name == "bandlimited", False)
    assert isinstance(operator, unroll.Operator)
    torch.testing.assert_close(operator(v), guide + inner(v - guide))
    torch.testing.assert_close(operator(v, 0.5), guide + inner(v - guide, 0.5))
    torch.testing.assert_close(operator(guide), guide)
    if operator.idempotent:
        torch.testing.assert_close(operator(operator(v)), operator(v))
    assert operator(v.float()).dtype == torch.float32
    assert operator.state_dict() == {}
    assert graphs.Around(unroll.Compose([inner]), guide).convex is False
    with pytest.raises(ValueError, match=r"the guide \(1, 3, 12, 15\) does not fit the signal \(1, 3, 15, 12\)"):
        operator(v[:1].mT)


def test_in_the_loop_of_a_solver(operators, device):
    class Pull(unroll.Loss):
        def forward(self, x, data):
            return ((x - data) ** 2).flatten(1).sum(dim=1)

    solver = unroll.Unrolled(unroll.GradientStep(Pull(), 0.1), steps=3)
    v = images(device)
    projector = operators["bandlimited"].to(device)
    x = solver(torch.zeros_like(v), v, projector=projector).x
    torch.testing.assert_close(projector(x), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda L: graphs.ChebyshevLowPass(L), "either k= or cutoff="),
        (lambda L: graphs.ChebyshevLowPass(L, k=3, cutoff=0.1), "either k= or cutoff="),
        (lambda L: graphs.ChebyshevLowPass(L, k=0), "from 1 to n = 180"),
        (lambda L: graphs.ChebyshevLowPass(L, cutoff=100.0), r"\(0, lambda_max = .*\], got 100"),
        (lambda L: graphs.ChebyshevLowPass(L, cutoff=0.1, order=0), "order must be at least 1, got 0"),
        (lambda L: graphs.ChebyshevLowPass(graphs.grid((1, 1)), k=1), "no edges"),
        (lambda L: graphs.Tikhonov(L, -1.0), "gamma must be a number of at least 0, got -1"),
        (lambda L: graphs.Tikhonov(L, math.inf), "gamma must be a number"),
        (lambda L: graphs.Tikhonov(L, 1.0, rtol=0.0), "rtol must be positive"),
        (lambda L: graphs.Tikhonov(L, 1.0, max_iter=0), "max_iter at least 1"),
        (lambda L: graphs.BandlimitedProjector(torch.ones(4, 2)), "orthonormal"),
        (lambda L: graphs.Tikhonov(L, 1.0)(torch.zeros(1, 3, W, H)), "12 x 15 pixels"),
        (lambda L: graphs.ChebyshevLowPass(L, cutoff=0.1)(torch.zeros(7)), "180 nodes"),
        (
            lambda L: graphs.BandlimitedProjector(graphs.eigenbasis(L, 2))(torch.zeros(1, 3, 4, 5)),
            r"180 nodes, the signal \(1, 3, 4, 5\) has 4 x 5 = 20 pixels",
        ),
    ],
)
def test_bad_input(laplacian, call, message):
    with pytest.raises(ValueError, match=message):
        call(laplacian)
