"""Every operator of the project, one line each, for the laws to be tested on.

A new operator is a new line in :data:`CASES`: how to build it, the shape of its signals and, where it has them, a
predicate of its set (projectors) or its function f (proximal operators). Signals are float64 unless ``complex``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import graphs
import unroll


@dataclass(frozen=True)
class Case:
    """An operator and what the laws need to know of it."""

    build: Callable[[], unroll.Operator]
    shape: tuple[int, ...] = (2, 6)
    f: Callable[[Tensor], Tensor] | None = None
    contains: Callable[[Tensor], bool] | None = None
    complex: bool = False
    rtol: float = 1e-9


def _orthonormal(n: int, k: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linalg.qr(torch.randn(n, k, dtype=dtype, generator=torch.Generator().manual_seed(0))).Q


def _image() -> Tensor:
    return torch.rand(3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _matting() -> graphs.Laplacian:
    return graphs.matting(_image(), eps=1e-3)


def _in_span(basis: Tensor) -> Callable[[Tensor], bool]:
    def contains(x: Tensor) -> bool:
        rows = x.reshape(-1, basis.shape[0]).T.to(basis.dtype)
        rest = rows - basis @ (basis.mH @ rows)
        return float(rest.abs().max()) <= 1e-8 * max(1.0, float(rows.abs().max()))

    return contains


def _in_box(x: Tensor) -> bool:
    return bool(((x >= -1) & (x <= 2)).all())


def _bandlimited() -> graphs.BandlimitedProjector:
    return graphs.BandlimitedProjector(graphs.eigenbasis(_matting(), 9))


IMAGE = (1, 3, 6, 7)
REAL, COMPLEX = _orthonormal(6, 2), _orthonormal(6, 2, dtype=torch.complex128)
U9 = graphs.eigenbasis(_matting(), 9).vectors

CASES: dict[str, Case] = {
    "identity": Case(unroll.Identity, contains=lambda x: True),
    "box": Case(lambda: unroll.Box(-1.0, 2.0), contains=_in_box),
    "subspace": Case(lambda: unroll.Subspace(REAL), contains=_in_span(REAL)),
    "subspace, complex": Case(lambda: unroll.Subspace(COMPLEX), complex=True),
    "soft threshold": Case(lambda: unroll.SoftThreshold(0.7), f=lambda x: 0.7 * x.abs().sum()),
    "soft threshold, complex": Case(lambda: unroll.SoftThreshold(0.7), f=lambda x: 0.7 * x.abs().sum(), complex=True),
    "bandlimited": Case(_bandlimited, IMAGE, contains=_in_span(U9)),
    "chebyshev": Case(lambda: graphs.ChebyshevLowPass(_matting(), k=9, order=20), IMAGE),
    "tikhonov": Case(
        lambda: graphs.Tikhonov(_matting(), 100.0, rtol=1e-12),
        IMAGE,
        f=lambda x: 50.0 * _matting().quadratic(x).sum(),
        rtol=1e-7,
    ),
    "bandlimited around a guide": Case(
        lambda: graphs.Around(_bandlimited(), _image()[None]), IMAGE, contains=lambda x: _in_span(U9)(x - _image())
    ),
    "tikhonov around a guide": Case(
        lambda: graphs.Around(graphs.Tikhonov(_matting(), 100.0, rtol=1e-12), _image()[None]),
        IMAGE,
        f=lambda x: 50.0 * _matting().quadratic(x - _image()).sum(),
        rtol=1e-7,
    ),
    "composition": Case(lambda: unroll.Compose([unroll.Box(-1.0, 2.0), unroll.Subspace(REAL)])),
}
