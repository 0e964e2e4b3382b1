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
    with pytest.raises(ValueError, match="low <= high"):
        unroll.Box(1.0, 0.0)


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
    with pytest.raises(ValueError, match="at least 0"):
        unroll.SoftThreshold(-1.0)


def test_composition_applies_in_the_order_given() -> None:
    v = torch.tensor([3.0])
    shrink, box = unroll.SoftThreshold(0.5), unroll.Box(0.0, 1.0)
    assert float(unroll.Compose([shrink, box])(v)) == 1.0
    assert float(unroll.Compose([box, shrink])(v)) == 0.5
    assert torch.equal(unroll.Compose([])(v), v)
