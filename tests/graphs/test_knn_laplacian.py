import numpy as np
import pytest
import torch
from graph_helpers import picture

import graphs
from graphs import _knn


@pytest.mark.parametrize("how", ["union", "intersection", "mean"])
def test_knn_is_its_definition(how):
    points = np.random.default_rng(0).standard_normal((25, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest = np.argsort(distances + np.diag(np.full(25, np.inf)), axis=1)[:, :3]
    chosen = np.zeros((25, 25), dtype=bool)
    np.put_along_axis(chosen, nearest, True, axis=1)
    sigma = distances[chosen].mean()
    share = {"union": chosen | chosen.T, "intersection": chosen & chosen.T, "mean": chosen / 2 + chosen.T / 2}[how]
    weights = share * np.exp(-(distances**2) / (2 * sigma**2))
    expected = np.diag(weights.sum(axis=1)) - weights
    for features in (points, torch.from_numpy(points)):
        np.testing.assert_allclose(graphs.knn(features, 3, symmetrise=how).to_scipy().toarray(), expected, atol=1e-12)


@pytest.mark.parametrize("duplicated", [False, True])
@pytest.mark.parametrize("blocks", [2**24, 2000])
def test_many_columns_find_the_neighbours_of_the_tree(duplicated, blocks, monkeypatch):
    points = np.random.default_rng(1).standard_normal((90, 40)) + 1e3
    if duplicated:
        points[30:60] = points[:30]
    monkeypatch.setattr(_knn, "BLOCK", blocks)
    distances, _ = _knn._by_blocks(points, 6)
    np.testing.assert_allclose(distances, _knn._by_tree(points, 6)[0], atol=1e-9)
    if duplicated:
        return  # ties are broken otherwise
    found = graphs.knn(points, 5).to_scipy()
    monkeypatch.setattr(_knn, "TREE_COLUMNS", 40)
    assert abs(found - graphs.knn(points, 5).to_scipy()).max() < 1e-10


def test_crowds_and_components_are_reported(caplog):
    far = np.concatenate([np.arange(5.0), 1e3 + np.arange(4.0)])[:, None]
    assert graphs.knn(far, 2).components() == 2
    assert caplog.messages == ["the graph of 9 points with k = 2 has 2 components"]
    caplog.clear()
    crowd = np.concatenate([np.zeros(4), np.arange(1.0, 6.0)])[:, None]
    graphs.knn(crowd, 3)
    assert caplog.messages[0].startswith("4 of 9 points share their place with 3 others or more")
    caplog.clear()
    assert graphs.knn(crowd, 4).components() == 1
    assert not caplog.messages


def test_pixel_features_are_patches_and_positions():
    image = picture(5, 7, 2)
    found = graphs.pixel_features(image, position=0.5, patch=1)
    assert found.shape == (35, 2 * 9 + 2)
    padded = torch.nn.functional.pad(image[None], (1, 1, 1, 1), mode="replicate")
    patches = torch.nn.functional.unfold(padded, 3)[0].T / 3
    torch.testing.assert_close(found[:, :18], patches)
    torch.testing.assert_close(found[:, 18:], torch.cartesian_prod(torch.arange(5.0), torch.arange(7.0)).double() / 14)
    torch.testing.assert_close(graphs.pixel_features(image[None]), image.flatten(1).T)
    flat = torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None, None].expand(2, 5, 7)
    rows = graphs.pixel_features(flat, patch=2)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(35, dtype=torch.float64))  # the scale of one pixel


def test_knn_of_duplicates_has_no_loops_and_enough_neighbours():
    points = np.repeat(np.random.default_rng(0).standard_normal((4, 3)), 10, axis=0)
    adjacency = -graphs.knn(points, 5).to_scipy().toarray()
    degree = -adjacency.diagonal()
    np.fill_diagonal(adjacency, 0)
    assert ((adjacency > 0).sum(axis=1) >= 5).all()
    np.testing.assert_allclose(adjacency.sum(axis=1), degree)
    assert adjacency.max() <= 1
    assert set(np.unique(graphs.knn(np.zeros((6, 2)), 5).to_scipy().toarray())) == {-1.0, 5.0}


def test_fewer_than_k_points_are_joined_to_all_others_and_it_is_said(caplog):
    points = np.random.default_rng(2).standard_normal((4, 2))
    found = graphs.knn(points, 7).to_scipy().toarray()
    assert caplog.messages == ["there are only 4 points for k = 7: each is joined to the 3 others"]
    np.testing.assert_array_equal(found, graphs.knn(points, 3).to_scipy().toarray())
    assert (found != 0).all()
    pair = graphs.knn(points[:2], 2, sigma=1.0).to_scipy().toarray()
    weight = np.exp(-((points[0] - points[1]) ** 2).sum() / 2)
    np.testing.assert_allclose(pair, weight * np.array([[1, -1], [-1, 1]]))
