"""Elementary operators: closed forms, other dimensions, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import unroll


def test_box_takes_bounds_per_entry() -> None:
    low, high = torch.tensor([0.0, -1.0, 2.0]), torch.tensor([1.0, 1.0, 2.0])
    v = torch.tensor([[3.0, -4.0, 0.0], [0.5, 0.2, 9.0]])
    assert torch.equal(unroll.Box(low, high)(v), torch.tensor([[1.0, -1.0, 2.0], [0.5, 0.2, 2.0]]))
    assert torch.equal(unroll.Box()(v), v.clamp(0, 1))
    assert torch.equal(unroll.Box(0.0, high)(v), torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.2, 2.0]]))
    for bounds in ((1.0, 0.0), (float("nan"), 1.0), (low, torch.tensor([1.0, 1.0, 1.0])), (1.5, high)):
        with pytest.raises(ValueError, match="low <= high"):
            unroll.Box(*bounds)
    with pytest.raises(TypeError, match="real signals"):
        unroll.Box()(torch.ones(2, dtype=torch.complex64))


def test_subspace_projects_along_any_dimension() -> None:
    basis = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64)).Q
    v = torch.randn(3, 5, 4, dtype=torch.float64)
    expected = torch.einsum("ij,bjc->bic", basis @ basis.T, v)
    torch.testing.assert_close(unroll.Subspace(basis, dim=1)(v), expected)
    with pytest.raises(ValueError, match="length 5, the signal of shape"):
        unroll.Subspace(basis)(v)
    with pytest.raises(ValueError, match="orthonormal"):
        unroll.Subspace(2 * basis)
    with pytest.raises(ValueError, match="matrix"):
        unroll.Subspace(basis[0])
    with pytest.raises(TypeError, match="complex"):
        unroll.Subspace(basis.to(torch.complex128), dim=1)(v)


def test_soft_thresholding_in_closed_form() -> None:
    v = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
    assert torch.equal(unroll.SoftThreshold(1.0)(v), torch.tensor([-2.0, 0.0, 0.0, 0.0, 2.0]))
    assert torch.equal(unroll.SoftThreshold(1.0)(v, 2.0), torch.tensor([-1.0, 0.0, 0.0, 0.0, 1.0]))
    z = torch.tensor([3 + 4j, 0.1j], dtype=torch.complex128)
    torch.testing.assert_close(unroll.SoftThreshold(1.0)(z), torch.tensor([2.4 + 3.2j, 0j], dtype=torch.complex128))
    each = unroll.SoftThreshold(torch.tensor([0.0, 1.0]))
    assert torch.equal(each(torch.tensor([[2.0, 2.0]])), torch.tensor([[2.0, 1.0]]))
    assert not each.state_dict()
    assert "threshold" in unroll.SoftThreshold(nn.Parameter(torch.tensor(0.5))).state_dict()
    for threshold in (-1.0, float("nan"), torch.tensor([0.5, -0.5])):
        with pytest.raises(ValueError, match="at least 0"):
            unroll.SoftThreshold(threshold)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_tensors_of_an_operator_follow_the_dtype_of_the_signal(dtype: torch.dtype) -> None:
    v = torch.tensor([[2.0, 0.3]]).to(dtype)
    ones = torch.ones(2, dtype=torch.float64)
    operators = [unroll.SoftThreshold(ones), unroll.Subspace(torch.eye(2, dtype=torch.float64))]
    operators += [] if dtype.is_complex else [unroll.Box(-ones, ones)]
    for operator in operators:
        assert operator(v).dtype == dtype
        # They move with the module, and are no weights of it.
        assert all(buffer.is_meta for buffer in operator.to("meta").buffers())
        assert len(list(operator.buffers())) > 0
        assert not operator.state_dict()


def test_orthonormality_is_judged_in_full_precision() -> None:
    basis = torch.linalg.qr(torch.randn(64, 8)).Q
    with torch.autocast("cpu", torch.bfloat16):
        subspace = unroll.Subspace(basis)
        v = torch.randn(3, 64)
        once = subspace(v)
        torch.testing.assert_close(subspace(once), once)


def test_composition_applies_in_the_order_given() -> None:
    v = torch.tensor([3.0])
    shrink, box = unroll.SoftThreshold(0.5), unroll.Box(0.0, 1.0)
    assert float(unroll.Compose([shrink, box])(v)) == 1.0
    assert float(unroll.Compose([box, shrink])(v)) == 0.5
    assert float(unroll.Compose([box, shrink])(v, 0.5)) == 0.75
    assert torch.equal(unroll.Compose([])(v), v)
