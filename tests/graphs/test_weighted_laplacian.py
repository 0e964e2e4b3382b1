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


def there_and_back(bank):
    return lambda x: bank.synthesise(bank.analyse(x))


FILTERS = {
    "tikhonov": lambda L: graphs.Tikhonov(L, 2.0, rtol=1e-13),
    "heat": lambda L: graphs.SpectralFilter.heat(L, 3.0, order=6),
    "low-pass": lambda L: graphs.ChebyshevLowPass(L, cutoff=0.5, order=5),
    "bank": lambda L: graphs.FilterBank.meyer(L, 3, order=4).analyse,
    "bank and back": lambda L: there_and_back(graphs.FilterBank.meyer(L, 3, order=4)),
    "around": lambda L: graphs.Around(graphs.Tikhonov(L, 2.0, rtol=1e-13), torch.ones(N, 1).double()),
}


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("name", FILTERS)
def test_filters_and_solvers_are_differentiable_in_the_weights_twice(name, normalised):
    bound = graphs.from_edges(EDGES, weights().detach(), N)
    bound = (bound.normalized() if normalised else bound).lambda_max

    def apply(w, x):
        laplacian = graphs.from_edges(EDGES, w, N)
        laplacian = laplacian.normalized() if normalised else laplacian
        laplacian.lambda_max = bound  # a constant, as documented; finite differences would move it
        return FILTERS[name](laplacian)(x)

    w, x = weights(), signal(N, 2).requires_grad_()
    assert torch.autograd.gradcheck(apply, (w, x))
    assert torch.autograd.gradgradcheck(apply, (w, x), fast_mode=True)
    cheap = apply(w.detach(), x.detach())
    torch.testing.assert_close(apply(w, x.detach()).detach(), cheap, rtol=0, atol=1e-12)
    assert apply(w, x.detach()).requires_grad
    assert not cheap.requires_grad
    with torch.no_grad():
        assert not apply(w, x).requires_grad


def test_the_gradient_of_a_solve_is_the_outer_product_on_the_edges():
    w, v = weights(), signal(N, 2)
    x = graphs.Tikhonov(graphs.from_edges(EDGES, w, N), 2.0, rtol=1e-13)(v)
    u = graphs.Tikhonov(graphs.from_edges(EDGES, w.detach(), N), 2.0, rtol=1e-13)(torch.ones(N, 2).double() * v.sign())
    (gradient,) = torch.autograd.grad((x * v.sign()).sum(), w)
    i, j = EDGES
    torch.testing.assert_close(gradient, -2.0 * ((u[i] - u[j]) * (x[i] - x[j])).sum(dim=1).detach())


def test_a_solve_costs_no_further_iterations_for_the_weights(monkeypatch):
    products = []
    combine = graphs.Laplacian.combine
    monkeypatch.setattr(graphs.Laplacian, "combine", lambda *a, **k: products.append(0) or combine(*a, **k))
    counts = {}
    for form in ("live", "still"):
        w = weights().requires_grad_(form == "live")
        operator = graphs.Tikhonov(graphs.from_edges(EDGES, w, N), 2.0, rtol=1e-10)
        x = signal(N).requires_grad_()
        products.clear()
        y = operator(x)
        forward = len(products)
        y.sum().backward()
        counts[form] = forward, len(products) - forward
    assert counts["live"] == counts["still"]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch itself, on its first jvp
@pytest.mark.parametrize("name", ["tikhonov", "heat", "bank"])
def test_vmap_and_forward_mode_over_signals_of_filters_with_live_weights(name):
    apply, stack = FILTERS[name](graphs.from_edges(EDGES, weights(), N)), signal(4, N, 2)
    torch.testing.assert_close(torch.vmap(apply)(stack), torch.stack([apply(x) for x in stack]))
    value, moved = torch.func.jvp(apply, (stack[0],), (stack[1],))
    torch.testing.assert_close(value, apply(stack[0]))
    torch.testing.assert_close(moved, apply(stack[1]))
