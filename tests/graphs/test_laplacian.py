import copy
import pickle

import numpy as np
import pytest
import torch
from graph_helpers import every_kind, picture

import graphs
from graphs import _kernels

KINDS = every_kind()
kinds = pytest.mark.parametrize("laplacian", KINDS.values(), ids=KINDS.keys())


def dense(laplacian):
    return torch.from_numpy(laplacian.to_scipy().toarray())


@kinds
def test_laws_of_the_matrix(laplacian):
    matrix = dense(laplacian)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert laplacian.shape == (laplacian.n, laplacian.n) == tuple(matrix.shape)
    assert torch.equal(matrix, matrix.T)
    assert eigenvalues[0] > -1e-9
    assert eigenvalues[-1] <= laplacian.lambda_max * (1 + 1e-12)
    torch.testing.assert_close(laplacian.diagonal(), matrix.diagonal())
    torch.testing.assert_close(laplacian.absolute_sums(), matrix.abs().sum(dim=1))
    positive = torch.rand(laplacian.n, dtype=torch.float64)
    torch.testing.assert_close(laplacian.absolute_product(positive), matrix.abs() @ positive)
    torch.testing.assert_close(laplacian.to_torch().to_dense(), matrix)
    assert torch.equal(laplacian.to_dense(), matrix)


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matvec_is_the_matrix(laplacian, dtype, device):
    matrix = dense(laplacian).to(device)
    x = torch.randn(laplacian.n, 3, dtype=torch.float64, device=device)
    expected = matrix @ x
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    found = laplacian.matvec(x.to(dtype))
    assert found.dtype == dtype
    assert found.device == x.device
    torch.testing.assert_close(found.double(), expected, **tolerance)
    torch.testing.assert_close(laplacian.matvec(x[:, 1].to(dtype)).double(), expected[:, 1], **tolerance)
    torch.testing.assert_close(laplacian.quadratic(x.to(dtype)).double(), (x * expected).sum(), **tolerance)
    if laplacian.spatial_shape and len(laplacian.spatial_shape) > 1:
        images = torch.stack([x.T.reshape(3, *laplacian.spatial_shape)] * 2)
        expected = torch.stack([expected.T.reshape(3, *laplacian.spatial_shape)] * 2)
        torch.testing.assert_close(laplacian.matvec(images.to(dtype)).double(), expected, **tolerance)
        energies = laplacian.quadratic(images.to(dtype)).double()
        torch.testing.assert_close(energies, (images * expected).flatten(1).sum(dim=1), **tolerance)


@kinds
def test_the_torch_path_gives_the_values_of_the_compiled_one(laplacian):
    x, z, v = torch.randn(3, 2, laplacian.n, dtype=torch.float64)
    expected = 0.5 * (dense(laplacian) @ x.T).T - 2 * x + 3 * z - 4 * v
    torch.testing.assert_close(laplacian.combine(x, 0.5, -2.0, z, 3.0, v, -4.0), expected)
    torch.testing.assert_close(graphs.Laplacian.combine(laplacian, x, 0.5, -2.0, z, 3.0, v, -4.0), expected)
    kept = x.clone(), v.clone()
    assert laplacian.combine(x, 0.5, -2.0, z, 3.0, v, -4.0, out=z) is z
    torch.testing.assert_close(z, expected)
    assert torch.equal(x, kept[0])
    assert torch.equal(v, kept[1])


def test_threads_and_large_signals_change_nothing():
    laplacian = graphs.matting(picture(150, 230))
    x = torch.randn(150 * 230, 2, dtype=torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one, built = laplacian.matvec(x), graphs.matting(picture(150, 230))
        torch.set_num_threads(3)
        three, again = laplacian.matvec(x), graphs.matting(picture(150, 230))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, three)
    assert (built.to_scipy() != again.to_scipy()).nnz == 0
    np.testing.assert_allclose(one.numpy(), laplacian.to_scipy() @ x.numpy(), atol=1e-10)


@pytest.mark.parametrize("planes", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    "laplacian",
    [
        graphs.matting(picture(128, 120)),  # 15 KB a plane: rows that would share their places in the caches
        graphs.grid(picture(128, 121), neighbours=8),
        graphs.grid(torch.rand(1, 1, 9, 40, 41), neighbours=26),  # 13 diagonals: three times four, and one
    ],
    ids=["matting", "grid8", "video"],
)
def test_planes_and_diagonals_are_worked_on_together_where_all_meet(laplacian, planes):
    x, z = torch.randn(2, planes, laplacian.n, dtype=torch.float64)
    exact = torch.from_numpy(laplacian.to_scipy() @ x.numpy().T).T
    torch.testing.assert_close(laplacian.combine(x), exact)
    torch.testing.assert_close(laplacian.combine(x.float()), exact.float(), rtol=1e-4, atol=1e-4)
    expected = exact - 2 * x + 3 * z
    torch.testing.assert_close(laplacian.combine(x, 1.0, -2.0, z, 3.0, out=z), expected)
    constant = torch.full((planes, laplacian.n), 0.3)
    assert not laplacian.combine(constant).any()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch itself, on its first jvp
@pytest.mark.parametrize("name", ["matting", "knn", "normalised grid"])
def test_derivatives(name, device):
    laplacian = KINDS[name]
    x = torch.randn(laplacian.n, 1, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(laplacian.matvec, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(laplacian.matvec, x, fast_mode=True)
    assert torch.autograd.gradcheck(laplacian.quadratic, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(laplacian.quadratic, x, fast_mode=True)
    x32 = x.detach().float().requires_grad_()
    (gradient,) = torch.autograd.grad(laplacian.quadratic(x32), x32)
    torch.testing.assert_close(gradient, 2 * laplacian.matvec(x32.detach()))
    tangent = torch.randn_like(x)
    _, moved = torch.func.jvp(laplacian.matvec, (x.detach(),), (tangent,))
    torch.testing.assert_close(moved, laplacian.matvec(tangent))
    stack = torch.randn(4, laplacian.n, 2, dtype=torch.float64, device=device)
    torch.testing.assert_close(torch.vmap(laplacian.matvec)(stack)[2], laplacian.matvec(stack[2]))


def test_constants_stay_in_the_kernel_in_single_precision():
    constant = torch.full((1, 1, 12, 15), 0.7)
    assert KINDS["matting"].matvec(constant).abs().max() == 0
    assert KINDS["grid8"].matvec(constant).abs().max() == 0


def test_half_precision_comes_back_as_it_went(image):
    x = torch.rand(1, 3, 12, 15)
    found = graphs.grid(image).matvec(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, graphs.grid(image).matvec(x.bfloat16().float()).bfloat16())


def test_moving_and_copying():
    for name in ("matting", "knn", "normalised matting", "edges"):
        laplacian = KINDS[name]
        small = laplacian.to(dtype=torch.float32)
        assert (small.dtype, laplacian.dtype) == (torch.float32, torch.float64)
        x = torch.randn(laplacian.n, dtype=torch.float64)
        laplacian.matvec(x.float())
        torch.testing.assert_close(small.matvec(x), laplacian.matvec(x), rtol=1e-5, atol=1e-5)
        assert not torch.equal(small.matvec(x), laplacian.matvec(x))
        for twin in (copy.deepcopy(laplacian), pickle.loads(pickle.dumps(laplacian))):
            torch.testing.assert_close(twin.matvec(x), laplacian.matvec(x).detach(), rtol=1e-13, atol=1e-14)
            assert repr(twin) == repr(laplacian)
        with pytest.raises(ValueError, match="float32 or float64"):
            laplacian.to(dtype=torch.float16)


def test_to_networkx_and_pygsp(caplog):
    import networkx
    import pygsp.graphs

    for name in ("grid8", "knn", "matting", "video", "signal"):
        laplacian = KINDS[name]
        matrix = laplacian.to_scipy()
        found = networkx.laplacian_matrix(laplacian.to_networkx(), nodelist=range(laplacian.n))
        assert abs(found - matrix).max() < 1e-9
        graph = laplacian.to_pygsp()
        assert isinstance(graph, pygsp.graphs.Graph)
        assert abs(graph.L - matrix).max() < 1e-9
    with pytest.raises(ValueError, match="do not sum to zero"):
        KINDS["scipy"].to_networkx()


def test_grid_of_a_shape_is_networkx_grid():
    import networkx

    expected = networkx.laplacian_matrix(
        networkx.grid_2d_graph(4, 6), nodelist=[(i, j) for i in range(4) for j in range(6)]
    )
    assert abs(graphs.grid((4, 6)).to_scipy() - expected).max() == 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3,), r"180 nodes, the signal \(3,\) has 3 rows"),
        ((1, 3, 15, 12), r"12 x 15 pixels, the signal \(1, 3, 15, 12\) has 15 x 12"),
        ((3, 12, 15), r"\(n,\), \(n, c\), \(B, C, H, W\) or \(B, C, D, H, W\), got the shape \(3, 12, 15\)"),
        ((1, 3, 2, 12, 15), r"12 x 15 pixels, the signal \(1, 3, 2, 12, 15\) has 2 x 12 x 15"),
    ],
)
def test_signals_that_do_not_fit(shape, message):
    with pytest.raises(ValueError, match=message):
        KINDS["matting"].matvec(torch.zeros(shape))


def test_signals_of_other_kinds():
    with pytest.raises(ValueError, match="40 nodes has no image grid"):
        KINDS["knn"].matvec(torch.zeros(1, 3, 5, 8))
    with pytest.raises(ValueError, match="12 x 15 pixels"):
        graphs.from_scipy(KINDS["grid4"].to_scipy(), grid_shape=(12, 15)).matvec(torch.zeros(1, 3, 15, 12))
    with pytest.raises(ValueError, match=r"3 x 4 x 5 pixels, the signal \(1, 1, 12, 5\) has 12 x 5"):
        KINDS["video"].matvec(torch.zeros(1, 1, 12, 5))
    with pytest.raises(TypeError, match=r"torch\.int64"):
        KINDS["knn"].matvec(torch.zeros(40, dtype=torch.int64))


def test_kernels_compile_without_a_cache(monkeypatch):
    import numba

    original = numba.njit

    def refusing(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return original(**options)

    def fill(start, stop, out):
        for i in range(start, stop):
            out[i] = i

    monkeypatch.setattr(numba, "njit", refusing)
    out = np.zeros(5)
    _kernels._compiled(fill)(5, out)
    assert out.tolist() == [0, 1, 2, 3, 4]
