"""Every operator of the project, one line each, for the laws to be tested on.

A new operator is a new line in :data:`CASES`: how to build it, the shape of its signals and, where it has them, its set
(projectors: a predicate, and points drawn without the projector's help) or its function f (proximal operators). Signals
are float64 unless ``complex``; their first dimension is the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

import graphs
import unroll


class Set(NamedTuple):
    """A closed convex set: ``contains(x)``, and ``point(z)`` that makes any signal z a point of it, not the nearest."""

    contains: Callable[[Tensor], bool]
    point: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """An operator and what the laws need to know of it."""

    build: Callable[[], unroll.Operator]
    shape: tuple[int, ...] = (2, 6)
    f: Callable[[Tensor], Tensor] | None = None
    set: Set | None = None
    complex: bool = False
    rtol: float = 1e-9


def _orthonormal(n: int, k: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linalg.qr(torch.randn(n, k, dtype=dtype, generator=torch.Generator().manual_seed(0))).Q


def _image() -> Tensor:
    return torch.rand(3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@functools.cache
def _matting() -> graphs.Laplacian:
    return graphs.matting(_image(), eps=1e-3)


def _span(basis: Tensor) -> Set:
    n, k = basis.shape

    def contains(x: Tensor) -> bool:
        columns = x.reshape(-1, n).T
        rest = columns - basis @ torch.linalg.lstsq(basis, columns).solution
        return float(rest.abs().max()) <= 1e-8 * max(1.0, float(columns.abs().max()))

    return Set(contains, lambda z: (z.reshape(-1, n)[:, :k] @ basis.T).reshape(z.shape))


def _moved(inside: Set, guide: Tensor) -> Set:
    return Set(lambda x: inside.contains(x - guide), lambda z: guide + inside.point(z))


def _bandlimited() -> graphs.BandlimitedProjector:
    return graphs.BandlimitedProjector(graphs.eigenbasis(_matting(), 9))


IMAGE = (1, 3, 6, 7)
REAL, COMPLEX = _orthonormal(6, 2), _orthonormal(6, 2, dtype=torch.complex128)
U9 = graphs.eigenbasis(_matting(), 9).vectors
SPACE = Set(lambda x: True, lambda z: z)
BOX = Set(lambda x: bool(((x >= -1) & (x <= 2)).all()), lambda z: 3 * torch.sigmoid(z) - 1)

CASES: dict[str, Case] = {
    "identity": Case(unroll.Identity, set=SPACE),
    "box": Case(lambda: unroll.Box(-1.0, 2.0), set=BOX),
    "subspace": Case(lambda: unroll.Subspace(REAL), set=_span(REAL)),
    "subspace, complex": Case(lambda: unroll.Subspace(COMPLEX), set=_span(COMPLEX), complex=True),
    "soft threshold": Case(lambda: unroll.SoftThreshold(0.7), f=lambda x: 0.7 * x.abs().sum()),
    "soft threshold, complex": Case(lambda: unroll.SoftThreshold(0.7), f=lambda x: 0.7 * x.abs().sum(), complex=True),
    "bandlimited": Case(_bandlimited, IMAGE, set=_span(U9)),
    "chebyshev": Case(lambda: graphs.ChebyshevLowPass(_matting(), k=9, order=20), IMAGE),
    "tikhonov": Case(
        lambda: graphs.Tikhonov(_matting(), 100.0, rtol=1e-12),
        IMAGE,
        f=lambda x: 50.0 * _matting().quadratic(x).sum(),
        rtol=1e-7,
    ),
    "bandlimited around a guide": Case(
        lambda: graphs.Around(_bandlimited(), _image()[None]), IMAGE, set=_moved(_span(U9), _image()[None])
    ),
    "tikhonov around a guide": Case(
        lambda: graphs.Around(graphs.Tikhonov(_matting(), 100.0, rtol=1e-12), _image()[None]),
        IMAGE,
        f=lambda x: 50.0 * _matting().quadratic(x - _image()).sum(),
        rtol=1e-7,
    ),
    "composition": Case(lambda: unroll.Compose([unroll.Box(-1.0, 2.0), unroll.Subspace(REAL)])),
}
