"""Laplacians that are differentiable in their weights."""

import copy

import pytest
import torch

import graphs

N = 7
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 2]])  # a ring, a chord, a loop; node 6 is alone


def weights():
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(EDGES.shape[1], dtype=torch.float64, generator=generator) + 0.1).requires_grad_()


def signal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def test_the_quadratic_form_has_the_squared_differences_for_gradient(device):
    w, x = weights(), signal(N, 3).to(device)
    (gradient,) = torch.autograd.grad(graphs.from_edges(EDGES, w, N).quadratic(x), w)
    torch.testing.assert_close(gradient, (x[EDGES[0]] - x[EDGES[1]]).square().sum(dim=1).cpu())


@pytest.mark.parametrize(
    "form", [lambda L: L, lambda L: L.normalized(), lambda L: L.tightened(), lambda L: L.to("cpu")]
)
def test_products_are_differentiable_in_weights_and_signal(form):
    def product(w, x):
        return form(graphs.from_edges(EDGES, w, N)).matvec(x)

    x = signal(N, 2).requires_grad_()
    assert torch.autograd.gradcheck(product, (weights(), x))
    assert torch.autograd.gradgradcheck(product, (weights(), x))
    live, still = product(weights(), x.detach()), product(weights().detach(), x.detach())
    assert live.requires_grad
    assert not still.requires_grad
    torch.testing.assert_close(live, still)


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_coo])
def test_gradients_reach_both_entries_of_an_adjacency(layout):
    x, w = signal(N), weights().detach()
    upper = torch.zeros(N, N, dtype=torch.float64).index_put((EDGES[0], EDGES[1]), w).fill_diagonal_(0)
    dense = upper + upper.T
    leaf = (dense if layout == torch.strided else dense.to_sparse()).requires_grad_()
    laplacian = graphs.from_adjacency(leaf)
    torch.testing.assert_close(laplacian.matvec(x).detach(), dense.sum(dim=1).diag() @ x - dense @ x)
    (gradient,) = torch.autograd.grad(laplacian.quadratic(x), leaf)
    expected = (x[:, None] - x).square() / 2 * (dense != 0)
    torch.testing.assert_close(gradient.to_dense() if gradient.is_sparse else gradient, expected)


def test_weights_are_learned_from_a_smooth_signal():
    x = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    logits = torch.zeros(EDGES.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        graphs.from_edges(EDGES, logits.sigmoid(), N).quadratic(x).backward()
        optimiser.step()
        optimiser.zero_grad()
    cut = x[EDGES[0]] != x[EDGES[1]]
    assert (logits[cut] < -2).all()
    assert (logits[~cut] == 0).all()


def test_what_an_optimiser_moves_afterwards_changes_nothing():
    w, x = weights(), signal(N)
    laplacian = graphs.from_edges(EDGES, w, N)
    before = laplacian.matvec(x), laplacian.to_scipy()
    with torch.no_grad():
        w.mul_(2)
    torch.testing.assert_close(laplacian.matvec(x), before[0])
    assert abs(laplacian.to_scipy() - before[1]).max() == 0
    twin = copy.deepcopy(laplacian)
    assert not twin.matvec(x).requires_grad
    torch.testing.assert_close(twin.matvec(x), before[0].detach())


def test_vmap_over_signals():
    laplacian, stack = graphs.from_edges(EDGES, weights(), N), signal(4, N)
    torch.testing.assert_close(torch.vmap(laplacian.matvec)(stack), laplacian.matvec(stack.T).T)
