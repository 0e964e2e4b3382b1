import numpy as np
import pytest
import torch
from graph_helpers import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import graphs
from graphs import _eigensolver
from graphs._dissection import Dissection, grid_reach
from graphs._eigensolver import BLOCK, factored, known_kernel, lowest_pairs


def check(laplacian, k, tol=1e-6, found=None):
    """The lowest k of LAPACK, with residuals and orthonormality to the tolerance."""
    values, rows = lowest_pairs(laplacian, k, tol * laplacian.lambda_max) if found is None else found
    matrix = laplacian.to_scipy()
    exact = np.linalg.eigvalsh(matrix.toarray())[:k]
    assert rows.shape == (k, laplacian.n)
    assert (np.diff(values) >= -1e-9 * laplacian.lambda_max).all()
    np.testing.assert_allclose(values, exact, rtol=1e-3, atol=1e-9 * laplacian.lambda_max)
    residuals = np.linalg.norm(rows @ matrix - values[:, None] * rows, axis=1)
    assert residuals.max() <= tol * laplacian.lambda_max
    np.testing.assert_allclose(rows @ rows.T, np.eye(k), atol=1e-8)
    return values, rows


@given(
    n=st.integers(150, 250),
    degree=st.integers(1, 4),
    k=st.integers(1, 12),
    seed=st.integers(0, 2**16),
    normalized=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_the_law_of_residuals_on_random_graphs(n, degree, k, seed, normalized):
    """Mostly disconnected, with isolated nodes, and weights over four decades."""
    random = np.random.default_rng(seed)
    edges = torch.from_numpy(random.integers(0, n, (2, n * degree // 2)))
    weights = torch.from_numpy(10.0 ** random.uniform(-2, 2, edges.shape[1]))
    laplacian = graphs.from_edges(edges, weights, n)
    check(laplacian.normalized() if normalized else laplacian, k)


@pytest.mark.parametrize(
    "laplacian",
    [
        graphs.matting(picture(14, 16), eps=1e-4),
        graphs.matting(picture(14, 16), eps=1e-4).normalized(),
        graphs.matting(picture(14, 16), radius=2),
        graphs.grid(picture(14, 16)),
        graphs.grid((200,)),
        graphs.grid((6, 6, 6)),
        graphs.grid((15, 15)),  # symmetric: most eigenvalues are double
        graphs.knn(np.random.default_rng(0).standard_normal((300, 3)), 6),
    ],
    ids=["matting", "normalised", "radius 2", "grid", "path", "video", "square", "points"],
)
@pytest.mark.parametrize("k", [1, 30])
def test_every_kind_has_the_eigenpairs_of_lapack(laplacian, k):
    _, rows = check(laplacian, k)
    normalized = laplacian.combinatorial() is not laplacian
    first = laplacian.base.diagonal().sqrt().numpy() if normalized else np.ones(laplacian.n)
    np.testing.assert_allclose(rows[0], first / np.linalg.norm(first), rtol=1e-12)


def test_disconnected_graphs_have_their_whole_kernel():
    points = np.concatenate([np.random.default_rng(i).standard_normal((30, 2)) + 100 * i for i in range(5)])
    laplacian = graphs.knn(points, 4)
    values, rows = check(laplacian, 8)
    assert (values[:5] == 0).all()
    assert values[5] > 1e-6
    members = np.kron(np.eye(5), np.ones(30) / np.sqrt(30))
    np.testing.assert_allclose(rows[:5], members, atol=1e-12)
    np.testing.assert_allclose(rows[5:] @ members.T, 0, atol=1e-12)
    values, rows = lowest_pairs(laplacian, 3, 1e-6)
    assert (values == 0).all()
    np.testing.assert_allclose(rows, members[:3], atol=1e-12)


def test_matrices_without_a_constant_kernel():
    """A graph with grounded nodes: L + diag, nothing in the kernel."""
    grounded = graphs.grid((14, 16)).to_scipy() + sparse.diags_array(np.arange(224) % 3 == 0, dtype=float)
    laplacian = graphs._sparse.SparseLaplacian(sparse.csr_array(grounded))
    assert known_kernel(laplacian, laplacian.to_scipy(), 5).shape == (0, 224)
    check(laplacian, 9)


def test_more_copies_of_an_eigenvalue_than_the_block_is_wide(monkeypatch):
    """Forty equal components: a block of 16 meets 16 copies of each eigenvalue, a fresh one sees that some are left."""
    path = np.arange(14)
    edges = np.concatenate([np.stack([path, path + 1]) + 15 * i for i in range(40)], axis=1)
    laplacian = graphs.from_edges(torch.from_numpy(edges), torch.ones(edges.shape[1], dtype=torch.float64), 600)
    blocks = []
    original = _eigensolver._search
    monkeypatch.setattr(_eigensolver, "_search", lambda krylov, *a: blocks.append(krylov.block) or original(krylov, *a))
    values, _ = check(laplacian, 60)
    assert blocks[0] == BLOCK < 20 <= blocks[-1]
    np.testing.assert_allclose(values[40:], 2 - 2 * np.cos(np.pi / 15), rtol=1e-6)


def test_a_star_whose_eigenvalue_one_is_everywhere():
    """Invariant spaces after two steps: the search goes on from random vectors."""
    leaves = torch.arange(1, 300)
    edges = torch.stack([torch.zeros_like(leaves), leaves])
    check(graphs.from_edges(edges, torch.ones(299, dtype=torch.float64), 300), 20)


def test_the_matrix_is_made_once(monkeypatch):
    laplacian, made = graphs.grid((50, 50)), []
    original = type(laplacian).to_scipy
    monkeypatch.setattr(type(laplacian), "to_scipy", lambda self: made.append(1) or original(self))
    graphs.eigenbasis(laplacian, 5)
    assert len(made) == 1


def test_no_edges_are_all_kernel():
    laplacian = graphs.from_scipy(sparse.csr_array((2100, 2100)))
    values, vectors = graphs.eigenbasis(laplacian, 30)
    assert (values == 0).all()
    assert torch.equal(vectors, torch.eye(2100, 30, dtype=torch.float64))


def test_a_space_that_fills_half_of_all():
    """Orthogonality holds out over forty steps, and graphs with no room for a block are left to LAPACK."""
    check(graphs.knn(np.random.default_rng(0).standard_normal((900, 8)), 8), 200)
    assert lowest_pairs(graphs.grid((6, 6)), 10, 1e-6) is None


@pytest.mark.parametrize(
    ("laplacian", "reach"),
    [
        (graphs.matting(picture(14, 17)), (2, 2)),
        (graphs.matting(picture(3, 21)), (2, 2)),
        (graphs.grid((90,)), (1,)),
        (graphs.grid((5, 6, 7)), (1, 1, 1)),
        (graphs.matting(picture(14, 17), radius=2).normalized(), (4, 4)),
    ],
)
@pytest.mark.parametrize(("leaf", "columns", "threads"), [(1, 3, 1), (8, 3, 2), (8, 12, 3), (500, 16, 2)])
def test_dissection_solves(laplacian, reach, leaf, columns, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    matrix = sparse.csr_array(laplacian.to_scipy() + 0.1 * sparse.eye_array(laplacian.n))
    assert grid_reach(matrix, laplacian.spatial_shape) == reach
    dissection = Dissection(matrix, laplacian.spatial_shape, reach, leaf)
    assert sorted(dissection.order) == list(range(laplacian.n))
    assert dissection.size <= laplacian.n**2
    b = np.random.default_rng(0).standard_normal((laplacian.n, columns))
    kept = b.copy()
    np.testing.assert_allclose(dissection.factor().solve(b), np.linalg.solve(matrix.toarray(), b), atol=1e-10)
    np.testing.assert_array_equal(b, kept)


def test_dissection_saves_numbers_and_refuses_what_is_indefinite():
    laplacian = graphs.matting(picture(45, 46))
    shifted = sparse.csr_array(laplacian.to_scipy() + sparse.eye_array(laplacian.n))
    dissection = Dissection(shifted, (45, 46), (2, 2))
    assert dissection.size < 110 * laplacian.n
    indefinite = sparse.csr_array(laplacian.to_scipy() - sparse.eye_array(laplacian.n))
    with pytest.raises(RuntimeError, match="not positive definite"):
        Dissection(indefinite, (45, 46), (2, 2)).factor()


def test_grids_with_long_edges_are_not_dissected():
    def plus(laplacian):
        return sparse.csr_array(laplacian.to_scipy() + 1e-3 * sparse.eye_array(laplacian.n))

    image = graphs.grid((14, 16))
    assert isinstance(factored(image, plus(image), 5), Dissection)
    far = image.to_scipy().tolil()
    far[0, 223] = far[223, 0] = -1
    far[0, 0] += 1
    far[223, 223] += 1
    laplacian = graphs._sparse.SparseLaplacian(sparse.csr_array(far), (14, 16))
    assert not isinstance(factored(laplacian, plus(laplacian), 5), Dissection)
    check(laplacian, 10)
