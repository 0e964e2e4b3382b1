"""What every Laplacian keeps, on graphs that hypothesis draws."""

import networkx
import pygsp.graphs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import graphs

laws = settings(max_examples=25, deadline=None)


def random(seed, *shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@st.composite
def adjacencies(draw):
    """The upper triangle of a matrix of weights >= 0, often with isolated nodes and several components."""
    n = draw(st.integers(1, 12))
    seed, density = draw(st.integers(0, 2**31)), draw(st.sampled_from([0.1, 0.3, 1.0]))
    weights = random(seed, n, n) * (random(seed + 1, n, n) < density)
    return torch.triu(weights * draw(st.sampled_from([1e-3, 1.0, 1e3])), 1)


def symmetric(upper):
    return upper + upper.T


@st.composite
def laplacians(draw):
    """One of every kind, with D - W of nonnegative weights or not, normalised or not."""
    seed = draw(st.integers(0, 2**31))
    channels, height, width = draw(st.integers(1, 4)), draw(st.integers(3, 6)), draw(st.integers(3, 6))
    image = random(seed, channels, height, width)
    kind = draw(st.sampled_from(["matting", "grid", "video", "signal", "knn", "adjacency", "edges"]))
    if kind == "matting":
        border, eps = draw(st.sampled_from(["inside", "trimmed"])), draw(st.sampled_from([1e-7, 1e-3, 1.0]))
        made = graphs.matting(image, border=border, eps=eps)
    elif kind in ("grid", "video", "signal"):
        options = {"weights": draw(st.sampled_from(["gaussian", "cauchy"])), "sigma": draw(st.sampled_from([0.3, 3.0]))}
        many = draw(st.booleans())
        if kind == "grid":
            made = graphs.grid(image, neighbours=8 if many else 4, **options)
        elif kind == "signal":
            made = graphs.grid(image[0], **options)
        else:
            made = graphs.grid(random(seed, 1, 2, 2, 3, width), neighbours=26 if many else 6, **options)
    elif kind == "knn":
        points = image[0].round(decimals=draw(st.integers(0, 3)))  # few decimals make duplicates
        how = draw(st.sampled_from(["union", "intersection", "mean"]))
        made = graphs.knn(points, draw(st.integers(1, height - 1)), symmetrise=how)
    else:
        adjacency = symmetric(draw(adjacencies()))
        made = graphs.from_adjacency(adjacency.requires_grad_(kind == "edges"))
    return made.normalized() if draw(st.booleans()) else made


def dense(laplacian):
    return torch.from_numpy(laplacian.to_scipy().toarray())


@laws
@given(laplacians(), st.integers(0, 2**31))
def test_symmetric_semidefinite_with_its_kernel_and_bound(laplacian, seed):
    matrix = dense(laplacian)
    scale = max(1e-300, float(matrix.abs().max()))
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert torch.equal(matrix, matrix.T)
    assert eigenvalues[0] >= -1e-11 * scale
    assert eigenvalues[-1] <= laplacian.lambda_max * (1 + 1e-12)
    assert laplacian.lambda_max <= 3 * eigenvalues[-1] + 1e-9 * scale  # no bound is idle
    base = laplacian.combinatorial()
    kernel = torch.ones(laplacian.n, dtype=torch.float64) if base is laplacian else base.diagonal().sqrt()
    assert laplacian.matvec(kernel).abs().max() <= 1e-10 * scale * kernel.abs().max()
    x = random(seed, laplacian.n, 2) - 0.5
    torch.testing.assert_close(laplacian.matvec(x), matrix @ x, rtol=1e-10, atol=1e-11 * scale)
    torch.testing.assert_close(
        laplacian.matvec(x.float()).double(), matrix @ x, rtol=1e-4, atol=1e-5 * scale * laplacian.n
    )
    assert laplacian.quadratic(x) >= -1e-11 * scale
    assert laplacian.matvec(x.bfloat16()).dtype == torch.bfloat16
    graph = networkx.from_numpy_array((matrix != 0).double().numpy())
    assert laplacian.components() == networkx.number_connected_components(graph)


@laws
@given(laplacians())
def test_tightened(laplacian):
    largest = float(torch.linalg.eigvalsh(dense(laplacian))[-1])
    tight = laplacian.tightened(0.01)
    assert largest * (1 - 1e-9) <= tight.lambda_max <= largest / 0.99 * (1 + 1e-9) + 1e-300
    assert tight.lambda_max <= laplacian.lambda_max
    x = torch.ones(laplacian.n, dtype=torch.float64)
    assert torch.equal(tight.matvec(x), laplacian.matvec(x))


@laws
@given(laplacians())
def test_round_trips(laplacian):
    def same(found, tolerance=1e-12):
        assert abs(found.to_scipy() - matrix).max() <= tolerance * max(1e-300, abs(matrix).max())

    matrix = laplacian.to_scipy()
    same(graphs.from_scipy(matrix))
    same(graphs.from_scipy(matrix, grid_shape=laplacian.spatial_shape), 0)
    normalised = laplacian.combinatorial() is not laplacian
    network = laplacian.to_networkx()
    back = graphs.from_networkx(network, signed=True)
    same(back.normalized() if normalised else back, 1e-10)
    peer = (networkx.normalized_laplacian_matrix if normalised else networkx.laplacian_matrix)(network)
    assert abs(peer - matrix).max() <= 1e-10 * max(1.0, abs(matrix).max())
    if laplacian.n > 1:  # PyGSP's graph of one node has no L
        graph = laplacian.to_pygsp()
        same(graphs.from_pygsp(graph, signed=True), 1e-10)
        assert abs(graph.L - matrix).max() <= 1e-10 * max(1.0, abs(matrix).max())


@laws
@given(adjacencies(), st.integers(0, 2**31))
def test_any_form_of_an_adjacency_and_its_relabelling(upper, seed):
    adjacency = symmetric(upper)
    n = len(adjacency)
    expected = torch.diag(adjacency.sum(dim=1)) - adjacency
    loops = adjacency + torch.diag(random(seed, n))  # self-loops cancel
    i, j = upper.nonzero().T
    forms = [
        graphs.from_adjacency(form)
        for form in (adjacency, adjacency.numpy(), sparse.coo_array(adjacency.numpy()), adjacency.to_sparse(), loops)
    ]
    forms.append(graphs.from_adjacency(adjacency.clone().requires_grad_()))
    forms.append(graphs.from_edges(torch.stack([j, i]), upper[i, j], n))
    forms.append(graphs.from_edges(torch.stack([j, i]).repeat(1, 2), upper[i, j].repeat(2) / 2, n))
    for laplacian in forms:
        torch.testing.assert_close(dense(laplacian), expected)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    x = random(seed, n)
    moved = graphs.from_adjacency(adjacency[order][:, order])
    torch.testing.assert_close(moved.matvec(x[order]), forms[0].matvec(x)[order])
    torch.testing.assert_close(
        moved.normalized().matvec(x[order]), forms[0].normalized().matvec(x)[order], rtol=1e-9, atol=1e-9
    )


@laws
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from(["union", "intersection", "mean"]))
def test_points_and_pixels_may_be_relabelled(seed, k, how):
    points, order = random(seed, 14, 2), torch.randperm(14, generator=torch.Generator().manual_seed(seed))
    found = dense(graphs.knn(points[order], k, symmetrise=how))
    torch.testing.assert_close(found, dense(graphs.knn(points, k, symmetrise=how))[order][:, order])
    image, x = random(seed, 2, 5, 4), random(seed, 1, 1, 5, 4)
    for build in (
        lambda image: graphs.matting(image, eps=1e-2, border="trimmed"),
        lambda image: graphs.matting(image, eps=1e-2),
        lambda image: graphs.grid(image, neighbours=8),
        lambda image: graphs.grid(image).normalized(),
    ):
        expected = build(image).matvec(x)
        torch.testing.assert_close(build(image.flip(2)).matvec(x.flip(3)).flip(3), expected)
        torch.testing.assert_close(build(image.transpose(1, 2)).matvec(x.transpose(2, 3)).transpose(2, 3), expected)


@pytest.mark.filterwarnings("ignore")  # of PyGSP, on numpy
def test_normalised_laplacians_are_those_of_pygsp():
    graph = pygsp.graphs.Sensor(40, seed=1)
    graph.compute_laplacian("normalized")
    found = graphs.from_pygsp(graph)
    assert abs(found.to_scipy() - graph.L).max() < 1e-12
    assert found.lambda_max == pytest.approx(2, rel=1e-9)
    assert abs(graphs.from_pygsp(pygsp.graphs.Sensor(40, seed=1)).normalized().to_scipy() - graph.L).max() < 1e-12
