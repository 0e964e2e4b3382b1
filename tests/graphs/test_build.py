import math
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_helpers import picture

import graphs


def naive_matting(image, radius, eps):
    """The sum over windows of the definition, one at a time, with numpy's general solver."""
    channels, height, width = image.shape
    index = np.arange(height * width).reshape(height, width)
    matrix = np.zeros((height * width, height * width))
    for y in range(radius, height - radius):
        for x in range(radius, width - radius):
            window = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
            colours = image[:, *window].reshape(channels, -1).T
            centred = colours - colours.mean(axis=0)
            size = len(centred)
            covariance = centred.T @ centred / size + eps / size * np.eye(channels)
            block = np.eye(size) - (1 + centred @ np.linalg.solve(covariance, centred.T)) / size
            nodes = index[window].ravel()
            matrix[np.ix_(nodes, nodes)] += block
    return matrix


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("shape", "radius", "eps"), [((8, 9), 1, 1e-5), ((10, 8), 2, 1e-3), ((3, 7), 1, 1e-4), ((7, 3), 1, 1e-4)]
)
def test_matting_is_its_definition(channels, shape, radius, eps):
    image = picture(*shape, channels)
    found = graphs.matting(image, radius=radius, eps=eps).to_scipy().toarray()
    assert distance(found, naive_matting(image.numpy(), radius, eps)) < 1e-10


@pytest.mark.parametrize(("eps", "tolerance"), [(1e-7, 1e-7), (1e-5, 1e-9)])
@pytest.mark.parametrize("radius", [1, 2])
def test_matting_agrees_with_pymatting(eps, tolerance, radius):
    import pymatting

    image = picture(40, 33)
    expected = pymatting.cf_laplacian(image.permute(1, 2, 0).contiguous().numpy(), epsilon=eps, radius=radius)
    difference = graphs.matting(image, eps=eps, radius=radius).to_scipy() - expected
    assert np.sqrt(difference.power(2).sum() / expected.power(2).sum()) < tolerance


@pytest.mark.parametrize(("eps", "tolerance"), [(1e-7, 1e-7), (1e-5, 1e-9)])
def test_matting_of_a_photograph_is_that_of_pymatting(eps, tolerance):
    import pymatting
    from PIL import Image

    with Image.open(Path(__file__).parents[2] / "apps/style_transfer/pictures/great-wall.jpg") as file:
        pixels = np.asarray(file.resize((128, 96)), dtype=np.float64) / 255
    expected = pymatting.cf_laplacian(pixels, epsilon=eps)
    difference = graphs.matting(torch.from_numpy(pixels).permute(2, 0, 1), eps=eps).to_scipy() - expected
    assert np.sqrt(difference.power(2).sum() / expected.power(2).sum()) < tolerance


def test_matting_takes_a_batch_of_one_any_dtype_and_keeps_the_image(image):
    expected = graphs.matting(image).to_scipy()
    kept = image.clone()
    found = graphs.matting(image[None].requires_grad_())
    assert abs(found.to_scipy() - expected).max() == 0
    assert torch.equal(image, kept)
    rounded = graphs.matting(image.float()).to_scipy()
    assert abs(rounded - graphs.matting(image.float().double()).to_scipy()).max() == 0
    assert graphs.matting(image).lambda_max <= 9


def test_matting_is_blind_to_what_is_affine_in_the_colours(image):
    laplacian = graphs.matting(image, eps=1e-9)
    noise = torch.rand(1, 1, 12, 15, dtype=torch.float64)
    affine = (image * torch.tensor([0.5, -2.0, 1.0])[:, None, None]).sum(dim=0, keepdim=True)[None] + 3
    assert laplacian.quadratic(affine) < 1e-4 * laplacian.quadratic(noise)


def test_each_option_changes_the_matrix(image):
    def differ(a, b):
        return abs(a.to_scipy() - b.to_scipy()).max() > 1e-3

    assert differ(graphs.matting(image), graphs.matting(image, radius=2))
    assert differ(graphs.matting(image), graphs.matting(image, eps=1e-2))
    assert differ(graphs.grid(image), graphs.grid(image, neighbours=8))
    assert differ(graphs.grid(image), graphs.grid(image, sigma=0.5))
    assert differ(graphs.knn(image[0], 3), graphs.knn(image[0], 4))
    assert differ(graphs.knn(image[0], 3), graphs.knn(image[0], 3, sigma=2.0))


@pytest.mark.parametrize("neighbours", [4, 8])
def test_grid_is_its_definition(neighbours):
    image, sigma = picture(5, 6), 0.2
    expected = np.zeros((30, 30))
    for i in range(30):
        for j in range(30):
            step = abs(i // 6 - j // 6), abs(i % 6 - j % 6)
            if step in [(0, 1), (1, 0), (1, 1)][: neighbours // 4 + 1 if neighbours == 8 else 2]:
                gap = image[:, i // 6, i % 6] - image[:, j // 6, j % 6]
                expected[i, j] = -math.exp(-float(gap @ gap) / (2 * sigma**2))
    expected -= np.diag(expected.sum(axis=1))
    found = graphs.grid(image, neighbours=neighbours, sigma=sigma).to_scipy().toarray()
    np.testing.assert_allclose(found, expected, atol=1e-14)
    unit = graphs.grid(image, neighbours=neighbours, sigma=math.inf).to_scipy()
    assert abs(unit - graphs.grid((5, 6), neighbours=neighbours).to_scipy()).max() == 0


def test_knn_is_its_definition():
    points = np.random.default_rng(0).standard_normal((25, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest = np.argsort(distances + np.diag(np.full(25, np.inf)), axis=1)[:, :3]
    chosen = np.zeros((25, 25), dtype=bool)
    np.put_along_axis(chosen, nearest, True, axis=1)
    sigma = distances[chosen].mean()
    weights = np.where(chosen | chosen.T, np.exp(-(distances**2) / (2 * sigma**2)), 0)
    expected = np.diag(weights.sum(axis=1)) - weights
    for features in (points, torch.from_numpy(points)):
        np.testing.assert_allclose(graphs.knn(features, 3).to_scipy().toarray(), expected, atol=1e-12)


def test_knn_of_duplicates_has_no_loops_and_enough_neighbours():
    points = np.repeat(np.random.default_rng(0).standard_normal((4, 3)), 10, axis=0)
    adjacency = -graphs.knn(points, 5).to_scipy().toarray()
    degree = -adjacency.diagonal()
    np.fill_diagonal(adjacency, 0)
    assert ((adjacency > 0).sum(axis=1) >= 5).all()
    np.testing.assert_allclose(adjacency.sum(axis=1), degree)
    assert adjacency.max() <= 1
    assert set(np.unique(graphs.knn(np.zeros((6, 2)), 5).to_scipy().toarray())) == {-1.0, 5.0}


def test_from_scipy_keeps_its_own_copy():
    matrix = graphs.grid((4, 5)).to_scipy()
    laplacian = graphs.from_scipy(matrix, grid_shape=(4, 5))
    before = laplacian.matvec(torch.ones(20) * torch.arange(20))
    matrix.data[:] = 0
    assert torch.equal(laplacian.matvec(torch.ones(20) * torch.arange(20)), before)
    assert laplacian.matvec(torch.rand(2, 3, 4, 5)).shape == (2, 3, 4, 5)


BAD = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: graphs.matting(torch.zeros(3, 2, 9)), ValueError, r"2 x 9 pixels holds no window of 3 x 3.*radius=1"),
        (lambda: graphs.matting(BAD, radius=0), ValueError, "radius must be an integer of at least 1, got 0"),
        (lambda: graphs.matting(BAD, eps=0), ValueError, "eps must be a positive number, got 0"),
        (lambda: graphs.matting(BAD.to(torch.uint8)), TypeError, r"torch\.uint8: divide by 255"),
        (lambda: graphs.matting(np.zeros((3, 8, 8))), TypeError, "got ndarray"),
        (lambda: graphs.matting(BAD + 7), ValueError, "got 7 to 7: divide by 255"),
        (lambda: graphs.matting(BAD * math.nan), ValueError, "got nan"),
        (lambda: graphs.matting(torch.zeros(2, 3, 8, 8)), ValueError, r"got the shape \(2, 3, 8, 8\)"),
        (lambda: graphs.grid(BAD, neighbours=6), ValueError, "neighbours must be 4 or 8, got 6"),
        (lambda: graphs.grid(BAD, sigma=0), ValueError, "sigma must be positive"),
        (lambda: graphs.grid((0, 4)), ValueError, r"got \(0, 4\)"),
        (lambda: graphs.knn(BAD, 2), ValueError, r"\(n, d\), got the shape \(3, 8, 8\)"),
        (lambda: graphs.knn(BAD[0], 8), ValueError, "1 <= k < n = 8, got 8"),
        (lambda: graphs.knn(BAD[0], 0), ValueError, "got 0"),
        (lambda: graphs.knn(BAD[0] * math.nan, 2), ValueError, "features must be finite"),
        (lambda: graphs.knn(BAD[0], 2, sigma=-1), ValueError, "sigma must be positive"),
        (lambda: graphs.from_scipy(np.eye(3)), ValueError, "square scipy sparse matrix, got ndarray"),
        (lambda: graphs.from_scipy(graphs.grid((2, 3)).to_scipy()[:4]), ValueError, r"shape \(4, 6\)"),
        (lambda: graphs.from_scipy(-graphs.grid((2, 3)).to_scipy()), ValueError, "positive semi-definite"),
        (lambda: graphs.from_scipy(graphs.grid((2, 3)).to_scipy() * 1j), ValueError, "complex128"),
        (lambda: graphs.from_scipy(graphs.grid((2, 3)).to_scipy() * math.inf), ValueError, "must be finite"),
        (lambda: graphs.from_scipy(triangular()), ValueError, "must be symmetric"),
        (lambda: graphs.from_scipy(graphs.grid((2, 3)).to_scipy(), grid_shape=(2, 4)), ValueError, "8 pixels"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def triangular():
    from scipy import sparse

    return sparse.csr_array(np.triu(np.ones((3, 3))))
