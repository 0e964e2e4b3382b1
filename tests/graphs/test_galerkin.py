"""The projectors of large images against dense linear algebra on their coarse space, and against the exact ones."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

import graphs
from apps.style_transfer import EXAMPLE_CONTENT, read_image, resize
from graphs import _chebyshev
from graphs._affine import AffineSpace
from graphs._galerkin import _degree


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(1, 3, 13, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def laplacian(image: Tensor) -> graphs.Laplacian:
    return graphs.matting(image, eps=1e-3)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return resize(read_image(EXAMPLE_CONTENT).rgb, 64).double()


@pytest.fixture(scope="module")
def change(photo: Tensor) -> Tensor:
    """A change as a solver makes it: new colours here and there, and texture."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(1, 3, 3, 4, generator=generator, dtype=torch.float64)
    gain = torch.nn.functional.interpolate(cells, photo.shape[-2:], mode="bicubic")
    return 0.3 * gain * (photo.flip(1) - 0.3) + 0.02 * torch.randn(photo.shape, generator=generator).double()


def columns(space: AffineSpace) -> np.ndarray:
    """T as a dense matrix, its columns in the order of the coefficients (F, ny, nx)."""
    shape = 4, space.ny, space.nx
    return space.prolong(torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)).numpy().T


def test_the_space_is_made_of_hats_times_colours(laplacian: graphs.Laplacian, image: Tensor) -> None:
    space = AffineSpace(laplacian, 4)  # type: ignore[arg-type]
    constant, red = torch.zeros(2, 1, 4, space.ny, space.nx, dtype=torch.float64)
    constant[:, 0] = 1
    red[:, 1] = 1
    torch.testing.assert_close(space.prolong(constant), torch.ones(1, laplacian.n).double())
    expected = (image[0, 0] - image[0, 0].mean()).reshape(1, -1)
    torch.testing.assert_close(space.prolong(red), expected)


@pytest.mark.parametrize("nodes", [2, 4, 9])
def test_restriction_mass_and_stiffness_are_those_of_the_dense_matrices(
    laplacian: graphs.Laplacian, nodes: int
) -> None:
    space = AffineSpace(laplacian, nodes)  # type: ignore[arg-type]
    t, dense = columns(space), laplacian.to_scipy().toarray()
    v = torch.randn(2, laplacian.n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(space.restrict(v).reshape(2, -1).numpy(), v.numpy() @ t, atol=1e-10)
    by_node = np.arange(t.shape[1]).reshape(4, -1).T.ravel()
    np.testing.assert_allclose(space._products(laplacian)[0].toarray(), (t.T @ t)[np.ix_(by_node, by_node)], atol=1e-10)
    np.testing.assert_allclose(
        space._products(laplacian)[1].toarray(), (t.T @ dense @ t)[np.ix_(by_node, by_node)], atol=1e-10
    )


@pytest.mark.parametrize(
    ("height", "width", "radius", "dtype"),
    [(9, 3, 1, torch.float64), (4, 9, 1, torch.float64), (12, 5, 2, torch.float64), (13, 11, 1, torch.float32)],
)
def test_mass_and_stiffness_of_narrow_images_wide_stencils_and_single_weights(
    height: int, width: int, radius: int, dtype: torch.dtype
) -> None:
    image = torch.rand(2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    laplacian = graphs.matting(image, radius=radius, eps=1e-3).to(dtype=dtype)
    space = AffineSpace(laplacian, 5)
    shape = 3, space.ny, space.nx
    t = space.prolong(torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)).numpy().T
    t = t[:, np.arange(t.shape[1]).reshape(3, -1).T.ravel()]
    mass, stiffness = (matrix.toarray() for matrix in space._products(laplacian))
    np.testing.assert_allclose(mass, t.T @ t, atol=1e-12)
    # Of single weights the diagonal of to_scipy() is a rounded sum.
    expected = t.T @ laplacian.to_scipy() @ t
    np.testing.assert_allclose(stiffness, expected, atol=1e-12 if dtype == torch.float64 else 1e-5)
    np.testing.assert_allclose(stiffness[:, ::3].sum(axis=1), 0, atol=1e-12)  # the hats add up to the constant


def test_grid_laplacians_make_spaces_of_hats_alone() -> None:
    laplacian = graphs.grid((12, 10))
    space = AffineSpace(laplacian, 4)  # type: ignore[arg-type]
    t = space.prolong(torch.eye(space.ny * space.nx, dtype=torch.float64).view(-1, 1, space.ny, space.nx)).numpy().T
    np.testing.assert_allclose(space._products(laplacian)[1].toarray(), t.T @ laplacian.to_scipy() @ t, atol=1e-12)


def test_the_low_pass_projects_onto_the_ritz_vectors(laplacian: graphs.Laplacian) -> None:
    k = 12
    low_pass = graphs.CoarseLowPass(laplacian, k, nodes=5, smoothing=0)
    t, dense = columns(low_pass._space), laplacian.to_scipy().toarray()
    basis = scipy.linalg.orth(t)
    values, vectors = scipy.linalg.eigh(basis.T @ dense @ basis)
    ritz = basis @ vectors[:, :k]
    # The penalty that keeps the coarse problem regular moves them by little.
    np.testing.assert_allclose(low_pass.eigenvalues.numpy(), values[:k], atol=1e-3 * values[k])
    assert values[k] > 1.01 * values[k - 1]
    v = torch.randn(laplacian.n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(low_pass(v).numpy(), ritz @ (ritz.T @ v.numpy()), atol=2e-2)
    torch.testing.assert_close(low_pass(low_pass(v)), low_pass(v), rtol=0, atol=1e-6)
    exact = graphs.eigenbasis(laplacian, k).eigenvalues
    assert bool((low_pass.eigenvalues >= exact - 1e-9).all())


def test_tikhonov_minimises_its_objective_on_the_space(laplacian: graphs.Laplacian) -> None:
    gamma = 30.0
    coarse = graphs.CoarseTikhonov(laplacian, gamma, nodes=5, smoothing=0)
    t, dense = columns(coarse._space), laplacian.to_scipy().toarray()
    v = torch.randn(laplacian.n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for tau in (1.0, 4.0):
        system = t.T @ t + tau * gamma * t.T @ dense @ t
        expected = t @ np.linalg.lstsq(system, t.T @ v.numpy(), rcond=1e-12)[0]
        np.testing.assert_allclose(coarse(v, tau).numpy(), expected, atol=5e-3)


def test_a_photograph_is_kept_and_so_are_constants(photo: Tensor) -> None:
    laplacian = graphs.matting(photo)
    for operator in (graphs.CoarseLowPass(laplacian, 30), graphs.CoarseTikhonov(laplacian, 100.0)):
        torch.testing.assert_close(operator(torch.ones_like(photo)), torch.ones_like(photo), rtol=0, atol=1e-6)
        assert float((operator(photo) - photo).square().mean().sqrt()) < 0.01


def test_on_a_photograph_both_are_close_to_the_exact_operators(photo: Tensor, change: Tensor) -> None:
    laplacian = graphs.matting(photo)
    low_pass, exact = graphs.CoarseLowPass(laplacian, 40), graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, 40))
    p, q = low_pass(change), exact(change)
    assert float((p - q).norm() / q.norm()) < 0.15
    assert float(laplacian.quadratic(p)) < 1.2 * float(laplacian.quadratic(q))
    soft = graphs.CoarseTikhonov(laplacian, 1000.0)
    exactly = graphs.Tikhonov(laplacian, 1000.0, rtol=1e-8)(change)
    assert float((soft(change) - exactly).norm() / exactly.norm()) == pytest.approx(soft.distance(change), rel=0.01)
    assert soft.distance(change) < 0.15


def test_more_nodes_come_closer(photo: Tensor, change: Tensor) -> None:
    laplacian = graphs.matting(photo)
    exact = graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, 40))(change)
    operators = [graphs.CoarseLowPass(laplacian, 40, nodes=n, smoothing=12) for n in (8, 16, 32)]
    errors = [float((operator(change) - exact).norm()) for operator in operators]
    assert errors == sorted(errors, reverse=True)


def test_smoothing_takes_energy(photo: Tensor, change: Tensor) -> None:
    laplacian = graphs.matting(photo)
    passed = [graphs.CoarseLowPass(laplacian, 40, nodes=12, smoothing=m)(change) for m in (0, 4, 12)]
    energies = [float(laplacian.quadratic(p)) for p in passed]
    assert energies[0] > 1.3 * energies[1] > 1.3 * energies[2]


def test_by_default_the_smoother_goes_with_the_space(photo: Tensor, change: Tensor) -> None:
    laplacian = graphs.matting(photo)
    by_space, by_band = (graphs.CoarseLowPass(laplacian, 40, nodes=nodes) for nodes in (40, 12))
    assert by_space.smoothing == 8 * (2 - 1)  # a node every two pixels
    edge = math.sqrt(laplacian.lambda_max / float(by_band.eigenvalues[-1]))
    assert by_band.smoothing == round(edge) < 8 * (64 / 11 - 1)
    exact = graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, 40))(change)
    short = graphs.CoarseLowPass(laplacian, 40, nodes=12, smoothing=2)
    energies = [float(laplacian.quadratic(p)) for p in (exact, by_space(change), by_band(change), short(change))]
    assert max(energies[1:3]) < 1.2 * energies[0] < energies[3]
    assert float((by_space(change) - exact).norm()) < 0.1 * float(exact.norm())


@pytest.mark.parametrize(
    ("side", "edge", "degree"), [(128, 12, 12), (128, 90, 18), (1024, 900, 128), (1448, 190, 256), (2048, 190, 412)]
)
def test_the_default_degree(side: int, edge: float, degree: int) -> None:
    """The edge of the band, the step between nodes, 128; and beyond a megapixel more, but eight for each pixel."""
    assert _degree(side**2, (side - 1) / 39, edge) == degree


def test_weights_are_kept_in_single_precision_and_the_values_to_it(photo: Tensor, change: Tensor) -> None:
    laplacian = graphs.matting(photo)
    coarse = graphs.CoarseTikhonov(laplacian, 1000.0)
    assert (coarse.laplacian.dtype, laplacian.dtype) == (torch.float32, torch.float64)
    smooth = _chebyshev.apply(laplacian, _chebyshev.fourth_kind(coarse.smoothing), laplacian.planes(change))
    torch.testing.assert_close(coarse._smooth(laplacian.planes(change)), smooth, rtol=0, atol=1e-6)
    torch.testing.assert_close(coarse(change.float()).double(), coarse(change), rtol=0, atol=1e-5)


@pytest.mark.parametrize("degree", [0, 1, 5, 12])
def test_the_smoother_is_the_optimal_polynomial(degree: int) -> None:
    laplacian = graphs.grid((1, 2))  # eigenvalues 0 and 2
    coefficients = _chebyshev.fourth_kind(degree)
    lam = np.linspace(0, 1, 4001)
    values = np.polynomial.chebyshev.chebval(2 * lam - 1, coefficients)
    assert values[0] == pytest.approx(1)
    assert np.abs(values).max() <= 1 + 1e-12
    assert (lam * values**2).max() == pytest.approx(1 / (2 * degree + 1) ** 2, rel=1e-3)
    assert laplacian.lambda_max >= 2


def test_distance_is_that_from_the_exact_projection(photo: Tensor, change: Tensor) -> None:
    laplacian = graphs.matting(photo)
    low_pass = graphs.CoarseLowPass(laplacian, 40)
    exact = graphs.BandlimitedProjector(graphs.eigenbasis(laplacian, 40))(change)
    assert low_pass.distance(change) == pytest.approx(float((low_pass(change) - exact).norm() / exact.norm()), abs=0.05)
    close = graphs.ChebyshevLowPass(laplacian, k=40)
    fine = graphs.ChebyshevLowPass(laplacian, cutoff=close.cutoff, order=16 * close.order)(change)
    assert low_pass.distance(change) == pytest.approx(float((low_pass(change) - fine).norm() / fine.norm()), rel=1e-3)


def test_copies_and_devices(laplacian: graphs.Laplacian, device: torch.device) -> None:
    v = torch.randn(1, 3, 13, 17, generator=torch.Generator().manual_seed(0))
    for operator in (graphs.CoarseLowPass(laplacian, 9, nodes=5), graphs.CoarseTikhonov(laplacian, 9.0, nodes=5)):
        expected = operator(v)
        torch.testing.assert_close(copy.deepcopy(operator)(v), expected, rtol=0, atol=0)
        assert operator(v.to(device)).device.type == device.type
        torch.testing.assert_close(operator(v.to(device)).cpu(), expected, rtol=0, atol=1e-5)


def test_bad_input_is_said(laplacian: graphs.Laplacian) -> None:
    points = graphs.knn(torch.rand(20, 2), 3)
    with pytest.raises(ValueError, match="needs the Laplacian of an image"):
        graphs.CoarseLowPass(points, 4)
    with pytest.raises(ValueError, match=r"more than half of the .* dimensions of a grid of 3 nodes: take more nodes"):
        graphs.CoarseLowPass(laplacian, 30, nodes=3)
    with pytest.raises(ValueError, match="at least 2 nodes, got 1"):
        graphs.CoarseTikhonov(laplacian, 1.0, nodes=1)
    with pytest.raises(ValueError, match="needs 2 x 2 pixels, got 7 x 1"):
        graphs.CoarseTikhonov(graphs.grid((7, 1)), 1.0)
    with pytest.raises(ValueError, match="order of the smoother must be at least 0, got -1"):
        graphs.CoarseTikhonov(laplacian, 1.0, smoothing=-1)
    with pytest.raises(ValueError, match="gamma must be a number of at least 0, got nan"):
        graphs.CoarseTikhonov(laplacian, math.nan)
    with pytest.raises(ValueError, match=r"the signal .* has"):
        graphs.CoarseTikhonov(laplacian, 1.0, nodes=3)(torch.zeros(1, 3, 5, 5))
