import math
from pathlib import Path

import networkx
import numpy as np
import pygsp.graphs
import pytest
import torch
from graph_helpers import picture
from scipy import sparse

import graphs
from graphs import _memory


def naive_matting(image, radius, eps, border="inside"):
    """The sum over windows of the definition, one at a time, with numpy's general solver."""
    margin = radius if border == "inside" else 0
    channels, height, width = image.shape
    index = np.arange(height * width).reshape(height, width)
    matrix = np.zeros((height * width, height * width))
    for y in range(margin, height - margin):
        for x in range(margin, width - margin):
            window = np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
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
@pytest.mark.parametrize("border", ["inside", "trimmed"])
def test_matting_is_its_definition(channels, shape, radius, eps, border):
    image = picture(*shape, channels)
    laplacian = graphs.matting(image, radius=radius, eps=eps, border=border)
    assert distance(laplacian.to_scipy().toarray(), naive_matting(image.numpy(), radius, eps, border)) < 1e-10
    assert laplacian.lambda_max <= (2 * radius + 1) ** 2


@pytest.mark.parametrize("border", ["inside", "trimmed"])
def test_matting_of_features_is_that_of_further_channels_of_any_range(border, image):
    features = 100 * torch.randn(2, 12, 15, dtype=torch.float64) - 1e4
    expected = naive_matting(torch.cat([image, features]).numpy(), 1, 1e-3, border)
    for form in (features, features[None].requires_grad_()):
        laplacian = graphs.matting(image, eps=1e-3, features=form, border=border)
        assert distance(laplacian.to_scipy().toarray(), expected) < 1e-9
        assert laplacian.near_kernel.shape == (180, 5)
    seen = torch.cat([features, features]).sum(dim=0)[None, None]
    blind = graphs.matting(image, eps=1e-3, border=border).quadratic(seen)
    assert laplacian.quadratic(seen) < 1e-4 * blind


@pytest.mark.parametrize("name", ["photograph", "unit grid of 8", "grid of 8", "video", "anisotropic"])
def test_bounds_are_tight_within_a_few_per_cent(name):
    from scipy.sparse import linalg

    image = picture(40, 33)
    laplacian = {
        "photograph": lambda: graphs.matting(image),
        "unit grid of 8": lambda: graphs.grid((20, 25), neighbours=8),
        "grid of 8": lambda: graphs.grid(image, neighbours=8, sigma=0.5),
        "video": lambda: graphs.grid((8, 9, 10), neighbours=26),
        "anisotropic": lambda: graphs.grid((20, 25), neighbours=8, spacing=(1.0, 3.0)),
    }[name]()
    (largest,) = linalg.eigsh(laplacian.to_scipy(), 1, which="LA", return_eigenvectors=False)
    assert largest <= laplacian.lambda_max <= 1.05 * largest


def test_positive_vectors_prove_a_better_bound_than_rows():
    laplacian = graphs.knn(torch.rand(300, 2, dtype=torch.float64), 6)
    largest = np.linalg.eigvalsh(laplacian.to_scipy().toarray())[-1]
    assert largest <= laplacian.lambda_max < 0.9 * float(laplacian.absolute_sums().max())
    star = graphs.from_edges(torch.stack([torch.zeros(30, dtype=torch.int64), torch.arange(1, 31)]), torch.ones(30), 31)
    assert star.lambda_max == pytest.approx(31, rel=1e-9)  # of a star n, where Gershgorin says 2 (n - 1)


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
    assert differ(graphs.matting(image), graphs.matting(image, border="trimmed"))
    assert differ(graphs.matting(image), graphs.matting(image, features=image[:1].square()))
    assert differ(graphs.grid(image), graphs.grid(image, weights="cauchy"))
    assert differ(graphs.grid(image), graphs.grid(image, features=image[:1].square()))
    assert differ(graphs.grid(image), graphs.grid(image, spacing=(1.0, 2.0)))
    union, both, mean = (graphs.knn(image[0], 3, symmetrise=how) for how in ("union", "intersection", "mean"))
    assert differ(union, both)
    assert differ(union, mean)
    assert differ(both, mean)
    assert differ(graphs.grid(image), graphs.grid(image, neighbours=8))
    assert differ(graphs.grid(image), graphs.grid(image, sigma=0.5))
    assert differ(graphs.knn(image[0], 3), graphs.knn(image[0], 4))
    assert differ(graphs.knn(image[0], 3), graphs.knn(image[0], 3, sigma=2.0))


def naive_grid(values, neighbours, sigma, weights, spacing):
    """Every pair of pixels, one at a time."""
    shape = values.shape[1:]
    places = list(np.ndindex(shape))
    expected = np.zeros((len(places), len(places)))
    for i, here in enumerate(places):
        for j, there in enumerate(places):
            step = np.abs(np.subtract(here, there))
            if step.max() == 1 and (step.sum() == 1 or neighbours > 2 * len(shape)):
                gap = (values[:, *here] - values[:, *there]) / sigma
                weight = math.exp(-gap @ gap / 2) if weights == "gaussian" else 1 / (1 + gap @ gap)
                expected[i, j] = -weight / (1 if spacing is None else ((step * spacing) ** 2).sum())
    return expected - np.diag(expected.sum(axis=1))


@pytest.mark.parametrize("weights", ["gaussian", "cauchy"])
@pytest.mark.parametrize(
    ("shape", "neighbours", "spacing"),
    [
        ((7,), 2, (0.5,)),
        ((5, 6), 4, None),
        ((5, 6), 8, None),
        ((5, 6), 8, (2.0, 0.5)),
        ((4, 1), 8, None),
        ((2, 2), 8, None),
        ((3, 2, 4), 6, (1.0, 2.0, 3.0)),
        ((3, 2, 4), 26, None),
        ((3, 2, 1), 26, None),
        ((2, 1, 3), 26, None),
        ((1, 3, 2), 26, (1.0, 2.0, 3.0)),
    ],
)
def test_grid_is_its_definition(shape, neighbours, spacing, weights):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, *shape, dtype=torch.float64, generator=generator)
    features = 5 * torch.randn(1, *shape, dtype=torch.float64, generator=generator)
    options = {"neighbours": neighbours, "sigma": 2.0, "weights": weights, "spacing": spacing}
    form = image[None] if len(shape) == 3 else image
    laplacian = graphs.grid(form, features=features, **options)
    expected = naive_grid(torch.cat([image, features]).numpy(), *options.values())
    np.testing.assert_allclose(laplacian.to_scipy().toarray(), expected, atol=1e-14)
    assert laplacian.spatial_shape == shape
    assert laplacian.grid_shape == (shape if len(shape) == 2 else None)
    alone = graphs.grid(shape, features=features, **options).to_scipy().toarray()
    np.testing.assert_allclose(alone, naive_grid(features.numpy(), *options.values()), atol=1e-14)


def test_unit_grids_are_those_of_networkx():
    for shape in ((6,), (4, 3), (2, 3, 4)):
        graph = networkx.grid_graph(shape[::-1])
        nodes = list(np.ndindex(shape)) if len(shape) > 1 else range(6)
        expected = networkx.laplacian_matrix(graph, nodelist=nodes)
        assert abs(graphs.grid(shape).to_scipy() - expected).max() == 0


@pytest.mark.parametrize("neighbours", [4, 8])
def test_an_infinite_sigma_makes_unit_weights(neighbours):
    image = picture(5, 6)
    unit = graphs.grid(image, neighbours=neighbours, sigma=math.inf).to_scipy()
    assert abs(unit - graphs.grid((5, 6), neighbours=neighbours).to_scipy()).max() == 0


def test_from_scipy_keeps_its_own_copy():
    matrix = graphs.grid((4, 5)).to_scipy()
    laplacian = graphs.from_scipy(matrix, grid_shape=(4, 5))
    before = laplacian.matvec(torch.ones(20) * torch.arange(20))
    matrix.data[:] = 0
    assert torch.equal(laplacian.matvec(torch.ones(20) * torch.arange(20)), before)
    assert laplacian.matvec(torch.rand(2, 3, 4, 5)).shape == (2, 3, 4, 5)


BAD = torch.zeros(3, 8, 8)
EDGE, ONE = torch.tensor([[0], [3]]), torch.ones(1)
SMALL = graphs.grid((8, 8))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: graphs.matting(torch.zeros(3, 2, 9)), ValueError, r"2 x 9 pixels holds no window of 3 x 3.*radius=1"),
        (lambda: graphs.matting(BAD, radius=0), ValueError, "radius must be an integer of at least 1, got 0"),
        (lambda: graphs.matting(BAD, eps=0), ValueError, "eps must be a positive number, got 0"),
        (lambda: graphs.matting(BAD.to(torch.uint8)), TypeError, r"torch\.uint8: divide by 255"),
        (lambda: graphs.matting(np.zeros((3, 8, 8))), TypeError, "got ndarray"),
        (lambda: graphs.matting(BAD + 7), ValueError, "got 7 to 7: divide by 255"),
        (lambda: graphs.matting(BAD * math.nan), ValueError, "image must be finite"),
        (lambda: graphs.grid(BAD + math.inf), ValueError, "image must be finite"),
        (lambda: graphs.matting(BAD, radius=4), ValueError, "8 x 8 pixels holds no window of 9 x 9"),
        (lambda: graphs.matting(BAD, border="none"), ValueError, "border must be 'inside' or 'trimmed', got 'none'"),
        (
            lambda: graphs.matting(BAD, features=BAD[:, :4]),
            ValueError,
            r"features \(3, 4, 8\) do not lie on the pixels",
        ),
        (lambda: graphs.matting(BAD, features=BAD / 0), ValueError, "features must be finite"),
        (lambda: graphs.matting(BAD, features=BAD.int()), TypeError, "features must be a floating torch tensor"),
        (lambda: graphs.grid(BAD, weights="box"), ValueError, "weights must be 'gaussian' or 'cauchy', got 'box'"),
        (lambda: graphs.grid(BAD, spacing=(1.0,)), ValueError, "spacing must be 2 positive lengths"),
        (lambda: graphs.grid(BAD, spacing=(1.0, 0.0)), ValueError, "spacing must be 2 positive lengths"),
        (lambda: graphs.grid((2, 3, 4), neighbours=8), ValueError, "neighbours must be 6 or 26, got 8"),
        (lambda: graphs.grid((2, 3, 4, 5)), ValueError, r"got \(2, 3, 4, 5\)"),
        (lambda: graphs.grid(torch.zeros(3, 4, 8, 8)), ValueError, r"\(1, C, D, H, W\), got the shape \(3, 4, 8, 8\)"),
        (lambda: graphs.knn(BAD[0], 2, symmetrise="or"), ValueError, "symmetrise must be .* got 'or'"),
        (lambda: graphs.pixel_features(BAD, patch=-1), ValueError, "patch must be an integer of at least 0, got -1"),
        (
            lambda: graphs.pixel_features(BAD, position=-1),
            ValueError,
            "position must be a number of at least 0, got -1",
        ),
        (lambda: graphs.pixel_features(BAD.int()), TypeError, r"torch\.int32: divide by 255"),
        (lambda: graphs.matting(torch.zeros(2, 3, 8, 8)), ValueError, r"got the shape \(2, 3, 8, 8\)"),
        (lambda: graphs.grid(BAD, neighbours=6), ValueError, "neighbours must be 4 or 8, got 6"),
        (lambda: graphs.grid(BAD, sigma=0), ValueError, "sigma must be positive"),
        (lambda: graphs.grid((0, 4)), ValueError, r"got \(0, 4\)"),
        (lambda: graphs.knn(BAD, 2), ValueError, r"\(n, d\) of at least 2 points, got the shape \(3, 8, 8\)"),
        (lambda: graphs.knn(BAD[0, :1], 1), ValueError, r"at least 2 points, got the shape \(1, 8\)"),
        (lambda: graphs.knn(BAD[0], 0), ValueError, "at least 1, got 0"),
        (lambda: graphs.knn(BAD[0], 2.0), ValueError, "at least 1, got 2.0"),
        (lambda: graphs.knn(BAD[0] * math.nan, 2), ValueError, "features must be finite"),
        (lambda: graphs.knn(BAD[0], 2, sigma=-1), ValueError, "sigma must be positive"),
        (lambda: graphs.from_scipy(np.eye(3)), ValueError, "square scipy sparse matrix, got ndarray"),
        (lambda: graphs.from_scipy(graphs.grid((2, 3)).to_scipy()[:4]), ValueError, r"shape \(4, 6\)"),
        (lambda: graphs.from_scipy(-graphs.grid((2, 3)).to_scipy()), ValueError, "positive semi-definite"),
        (lambda: graphs.from_scipy(graphs.grid((2, 3)).to_scipy() * 1j), ValueError, "complex128"),
        (lambda: graphs.from_scipy(graphs.grid((2, 3)).to_scipy() * math.inf), ValueError, "must be finite"),
        (lambda: graphs.from_scipy(triangular()), ValueError, "must be symmetric"),
        (lambda: graphs.from_scipy(graphs.grid((2, 3)).to_scipy(), grid_shape=(2, 4)), ValueError, "8 pixels"),
        (lambda: graphs.from_scipy(sparse.csr_array((0, 0))), ValueError, r"at least one node, got the shape \(0, 0\)"),
        (lambda: graphs.from_adjacency(np.zeros((0, 0))), ValueError, r"at least one node, got the shape \(0, 0\)"),
        (lambda: graphs.from_adjacency(np.eye(3)[:2]), ValueError, r"square matrix .* got the shape \(2, 3\)"),
        (lambda: graphs.from_adjacency(BAD), ValueError, r"square matrix, got the shape \(3, 8, 8\)"),
        (lambda: graphs.from_adjacency(np.triu(np.ones((3, 3)))), ValueError, "must be symmetric.*reaches 1.0e\\+00"),
        (lambda: graphs.from_adjacency(-np.ones((3, 3))), ValueError, "must not be negative, got -1: pass signed=True"),
        (lambda: graphs.from_adjacency(-np.ones((3, 3)), signed=True), ValueError, "its diagonal reaches -2.0e"),
        (lambda: graphs.from_adjacency(torch.full((3, 3), math.nan)), ValueError, "must be finite"),
        (lambda: graphs.from_adjacency(np.full((2, 2), "a")), ValueError, "must be real"),
        (lambda: graphs.from_edges(EDGE, ONE, 0), ValueError, "n >= 1 nodes, got 0"),
        (lambda: graphs.from_edges(EDGE, ONE, 3), ValueError, "nodes 0 to 2, got 0 to 3"),
        (lambda: graphs.from_edges(EDGE.T, ONE, 4), ValueError, r"edges must be \(2, m\).*got \(1, 2\)"),
        (lambda: graphs.from_edges(EDGE.float(), ONE, 4), TypeError, "edges must be integers"),
        (lambda: graphs.from_edges([[0], [1]], ONE, 4), TypeError, "must be torch tensors, got list"),
        (lambda: graphs.from_edges(EDGE, -ONE, 4), ValueError, "must not be negative, got -1"),
        (lambda: graphs.from_edges(EDGE, ONE / 0, 4), ValueError, "weights must be finite"),
        (lambda: graphs.from_networkx(networkx.Graph()), ValueError, "the graph has no nodes"),
        (lambda: graphs.from_networkx(networkx.DiGraph([(0, 1)])), ValueError, r"directed.*to_undirected\(\)"),
        (lambda: graphs.from_pygsp(pygsp.graphs.Graph(np.triu(np.ones((3, 3)), 1))), ValueError, "directed"),
        (lambda: graphs.from_pygsp(pygsp.graphs.Graph(np.ones((3, 3)), "normalized")), ValueError, "self-loops"),
        (lambda: graphs.grid((2, 3)).tightened(0.0), ValueError, "between 0 and 1, got 0.0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: graphs.matting(BAD),
        lambda: graphs.grid(BAD),
        lambda: graphs.knn(BAD[0], 3),
        lambda: SMALL.to_dense(),
        lambda: SMALL.to_scipy(),
        lambda: graphs.GuidedFilter(BAD, 1, 1e-3),
        lambda: graphs.CoarseLowPass(SMALL, 3),
    ],
)
def test_memory_that_will_not_suffice_is_named_before_anything_starts(call, monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 1e3)
    with pytest.raises(MemoryError, match=r"^.* needs about \S+ GB of memory, 1e-06 GB are available: .*$"):
        call()


def test_available_memory_is_that_of_the_system(monkeypatch, tmp_path):
    found = _memory.available_memory()
    assert 1e7 < found < 1e14

    def absent(self):
        raise OSError

    monkeypatch.setattr(Path, "read_text", absent)
    assert _memory.available_memory() >= found or _memory.available_memory() > 1e7


def test_a_multigraph_and_its_names(caplog):
    graph = networkx.MultiGraph([("b", "a", {"weight": 2.0}), ("a", "b", {"weight": 3.0}), ("b", "c", {"cost": 4.0})])
    expected = np.array([[6.0, -5, -1], [-5, 5, 0], [-1, 0, 1]])
    np.testing.assert_array_equal(graphs.from_networkx(graph).to_scipy().toarray(), expected)
    graph.remove_edge("a", "b")
    expected = np.array([[6.0, -2, -4], [-2, 2, 0], [-4, 0, 4]])
    graph["b"]["a"][0]["cost"] = 2.0
    np.testing.assert_array_equal(graphs.from_networkx(graph, weight="cost").to_scipy().toarray(), expected)


def triangular():
    return sparse.csr_array(np.triu(np.ones((3, 3))))
