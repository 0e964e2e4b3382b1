"""Every operator of the project, one line each, for the laws to be tested on.

A new operator is a new line in :data:`CASES`: how to build it, the shape of its signals and, where it has them, its set
(projectors: a predicate, and points drawn without the projector's help) or its function f (proximal operators). Signals
are float64 unless ``complex``; their first dimension is the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from points import Set, ball, below, equal, moved, plans, rows, simplex, span, sphere
from torch import Tensor

import graphs
import unroll
from apps.style_transfer.projectors import Mixed
from apps.style_transfer.video.temporal import Temporal
from unroll import penalties, sets


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


def _bandlimited() -> graphs.BandlimitedProjector:
    return graphs.BandlimitedProjector(graphs.eigenbasis(_matting(), 9))


def _tikhonov(gamma: float) -> graphs.Tikhonov:
    return graphs.Tikhonov(_matting(), gamma, rtol=1e-12)


_BOUND = (1e-3 * 42) ** 0.5


def _roughness(x: Tensor) -> Tensor:
    return _matting().quadratic(x)[:, None, None, None].clamp_min(0).sqrt()


def _per_channel() -> graphs.PerChannel:
    return graphs.PerChannel([_tikhonov(10.0), _tikhonov(100.0), unroll.SoftThreshold(0.7)])


def _channelwise(x: Tensor) -> Tensor:
    """Return the function of which _per_channel is the prox."""
    smooth = 5.0 * _matting().quadratic(x[:, :1]) + 50.0 * _matting().quadratic(x[:, 1:2])
    return smooth.sum() + 0.7 * x[:, 2].abs().sum()


IMAGE = (1, 3, 6, 7)
REAL, COMPLEX = _orthonormal(6, 2), _orthonormal(6, 2, dtype=torch.complex128)
U9 = graphs.eigenbasis(_matting(), 9).vectors
D = torch.float64
WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 1.0, 0.0, 3.0], dtype=D)
GROUPS = torch.tensor([0, 1, 1, 0, 2, 2])
TIMES = WEIGHTS + 0.25
FACES = torch.randn(9, 6, dtype=D, generator=torch.Generator().manual_seed(2))
ROWS, COLUMNS = torch.tensor([1.0, 2.0, 3.0], dtype=D), torch.tensor([2.0, 2.5, 1.0, 0.5], dtype=D)
NOTHING = torch.full((9,), torch.inf, dtype=D)


def size(x: Tensor) -> float:
    return 1 + float(x.abs().max())


def l1(x: Tensor) -> Tensor:
    return x.abs().sum(-1, keepdim=True)


def l2(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def largest(x: Tensor) -> Tensor:
    return x.abs().amax(-1, keepdim=True)


def groups(x: Tensor) -> Tensor:
    """Return the norms of the groups, one after another."""
    return torch.cat([l2(x[..., g == GROUPS]) for g in range(3)], dim=-1)


def huber(x: Tensor) -> Tensor:
    return torch.where(x.abs() <= 0.5, x.abs().square() / 2, 0.5 * (x.abs() - 0.25)).sum()


def barrier(x: Tensor) -> Tensor:
    return -torch.where(x > 0, x, 0).log().sum()


def divergence(x: Tensor) -> Tensor:
    y = WEIGHTS.relu()
    return torch.where(x < 0, torch.inf, torch.xlogy(y, y) - torch.xlogy(y, x.relu()) + x - y).sum()


def variation(x: Tensor) -> Tensor:
    return x.diff(dim=-1).abs().sum()


def lengths(x: Tensor, p: float) -> Tensor:
    down = torch.nn.functional.pad(x.diff(dim=-2), (0, 0, 0, 1))
    return torch.stack([down, torch.nn.functional.pad(x.diff(dim=-1), (0, 1))]).norm(p, dim=0).sum()


def few(s: int) -> Set:
    kept = torch.arange(6) % 3 < 1 if s == 2 else torch.arange(6) < s
    return Set(lambda x: bool(((x != 0).sum(-1) <= s).all()), lambda z: z * kept)


def rank_one(x: Tensor) -> bool:
    values = torch.linalg.svdvals(x)
    return below(values[..., 1:], torch.zeros(())) or below(values[..., 1:], 1e-9 * values[..., :1])


def orthonormal(x: Tensor) -> bool:
    return equal(x.mH @ x, torch.eye(x.shape[-1], dtype=x.dtype))


SPACE = Set(lambda x: True, lambda z: z)
BOX = Set(lambda x: bool(((x >= -1) & (x <= 2)).all()), lambda z: 3 * torch.sigmoid(z) - 1)

CASES: dict[str, Case] = {
    "identity": Case(unroll.Identity, set=SPACE),
    "box": Case(lambda: unroll.Box(-1.0, 2.0), set=BOX),
    "subspace": Case(lambda: unroll.Subspace(REAL), set=span(REAL)),
    "subspace, complex": Case(lambda: unroll.Subspace(COMPLEX), set=span(COMPLEX), complex=True),
    "soft threshold": Case(lambda: unroll.SoftThreshold(0.7), f=lambda x: 0.7 * x.abs().sum()),
    "soft threshold, complex": Case(lambda: unroll.SoftThreshold(0.7), f=lambda x: 0.7 * x.abs().sum(), complex=True),
    "bandlimited": Case(_bandlimited, IMAGE, set=span(U9)),
    "chebyshev": Case(lambda: graphs.ChebyshevLowPass(_matting(), k=9, order=20), IMAGE),
    "tikhonov": Case(
        lambda: graphs.Tikhonov(_matting(), 100.0, rtol=1e-12),
        IMAGE,
        f=lambda x: 50.0 * _matting().quadratic(x).sum(),
        rtol=1e-7,
    ),
    "dirichlet ball": Case(
        lambda: graphs.DirichletBall(_matting(), 1e-3, rtol=1e-12),
        IMAGE,
        # The iterations meet the energy to somewhat less than rounding.
        set=ball(_roughness, _BOUND)._replace(contains=lambda x: below(_roughness(x), _BOUND, slack=1e-6)),
        rtol=1e-7,
    ),
    "heat": Case(lambda: graphs.SpectralFilter.heat(_matting()), IMAGE),
    "meyer's wavelet": Case(lambda: graphs.FilterBank.meyer(_matting(), 3).filters[1], IMAGE),
    "second power": Case(lambda: graphs.SpectralFilter(_matting(), lambda x: x**2), IMAGE),
    "guided": Case(lambda: graphs.GuidedFilter(_image(), 2, 1e-3), IMAGE),
    "coarse low-pass": Case(lambda: graphs.CoarseLowPass(_matting(), 9, smoothing=2), IMAGE),
    "coarse tikhonov": Case(lambda: graphs.CoarseTikhonov(_matting(), 100.0, smoothing=2), IMAGE),
    "bandlimited around a guide": Case(
        lambda: graphs.Around(_bandlimited(), _image()[None]), IMAGE, set=moved(span(U9), _image()[None])
    ),
    "mixed with the identity, linear": Case(lambda: Mixed(_tikhonov(100.0), 0.3), IMAGE),
    "mixed with the identity, a prox": Case(lambda: Mixed(unroll.SoftThreshold(0.7), 0.3)),
    "temporal": Case(
        lambda: Temporal(WEIGHTS, TIMES.abs().clamp(max=1), 0.7),
        f=lambda x: 0.35 * (TIMES.abs().clamp(max=1) * (x - WEIGHTS).square()).sum(),
    ),
    "tikhonov around a guide": Case(
        lambda: graphs.Around(graphs.Tikhonov(_matting(), 100.0, rtol=1e-12), _image()[None]),
        IMAGE,
        f=lambda x: 50.0 * _matting().quadratic(x - _image()).sum(),
        rtol=1e-7,
    ),
    "front door, exact": Case(lambda: graphs.Bandlimited(_matting(), 9), IMAGE, set=span(U9)),
    "front door, chebyshev": Case(lambda: graphs.Bandlimited(_matting(), 9, method="chebyshev", order=20), IMAGE),
    "per channel": Case(_per_channel, IMAGE, f=_channelwise, rtol=1e-7),
    "per channel, sets": Case(
        lambda: graphs.PerChannel([_bandlimited(), unroll.Identity(), _bandlimited()]),
        IMAGE,
        set=Set(
            lambda x: span(U9).contains(x[:, ::2]),
            lambda z: torch.stack([span(U9).point(z[:, 0]), z[:, 1], span(U9).point(z[:, 2])], dim=1),
        ),
    ),
    "per opponent channel": Case(
        lambda: graphs.InColourSpace(_per_channel(), graphs.OPPONENT),
        IMAGE,
        f=lambda x: _channelwise(graphs.OPPONENT.there(x)),
        rtol=1e-7,
    ),
    "in linear light": Case(lambda: graphs.InColourSpace(_tikhonov(100.0), graphs.LINEAR_LIGHT), IMAGE, rtol=1e-7),
    "composition": Case(lambda: unroll.Compose([unroll.Box(-1.0, 2.0), unroll.Subspace(REAL)])),
    "hypercube": Case(sets.Hypercube, set=Set(lambda x: below(x, 1) and below(-x, 0), torch.sigmoid)),
    "non-negative": Case(sets.NonNegative, set=Set(lambda x: below(-x, 0), torch.abs)),
    "l2 ball": Case(lambda: sets.L2Ball(1.5), set=ball(l2, 1.5)),
    "l2 ball, complex": Case(lambda: sets.L2Ball(1.5), set=ball(l2, 1.5), complex=True),
    "l2 sphere": Case(lambda: sets.L2Sphere(1.5), set=sphere(l2, 1.5)),
    "linf ball": Case(lambda: sets.LinfBall(1.5), set=ball(largest, 1.5)),
    "linf ball, complex": Case(lambda: sets.LinfBall(1.5), set=ball(largest, 1.5), complex=True),
    "l1 ball": Case(lambda: sets.L1Ball(1.5), set=ball(l1, 1.5)),
    "l1 ball, complex": Case(lambda: sets.L1Ball(1.5), set=ball(l1, 1.5), complex=True),
    "l1 sphere": Case(lambda: sets.L1Sphere(1.5), set=sphere(l1, 1.5)),
    "group ball": Case(lambda: sets.GroupBall(GROUPS, 1.5), set=ball(lambda x: l1(groups(x)), 1.5)),
    "group ball, complex": Case(
        lambda: sets.GroupBall(GROUPS, 1.5), set=ball(lambda x: l1(groups(x)), 1.5), complex=True
    ),
    "simplex": Case(lambda: sets.Simplex(2.0), set=simplex(2.0)),
    "sparse simplex": Case(
        lambda: sets.SparseSimplex(2, 2.0),
        set=Set(
            lambda x: few(2).contains(x) and simplex(2.0).contains(x),
            lambda z: few(2).point(simplex(2.0).point(z.masked_fill(few(2).point(torch.ones(6)) == 0, -torch.inf))),
        ),
    ),
    "sparse": Case(lambda: sets.Sparse(2), set=few(2)),
    "sparse, complex": Case(lambda: sets.Sparse(2), set=few(2), complex=True),
    "hyperplane": Case(
        lambda: sets.Hyperplane(TIMES, 1.0),
        set=Set(lambda x: equal(x @ TIMES, 1.0), lambda z: z + (1 - z @ TIMES)[..., None] / 6 / TIMES),
    ),
    "half-space": Case(
        lambda: sets.HalfSpace(TIMES, 1.0),
        set=Set(lambda x: below(x @ TIMES, 1.0), lambda z: z - ((z @ TIMES - 1).relu())[..., None] / 6 / TIMES),
    ),
    "affine set": Case(
        lambda: sets.AffineSet(FACES[:3], FACES[:3, 0]),
        set=moved(span(torch.linalg.qr(FACES[:3].T, mode="complete").Q[:, 3:]), torch.eye(6, dtype=D)[0]),
    ),
    "box section": Case(
        lambda: sets.BoxSection(-1.0, 2.0, WEIGHTS, 1.5),
        set=rows(
            torch.cat([torch.eye(6, dtype=D), WEIGHTS[None]]),
            torch.tensor([-1.0] * 6 + [1.5], dtype=D),
            torch.tensor([2.0] * 6 + [1.5], dtype=D),
        ),
    ),
    "polyhedron": Case(
        lambda: sets.Polyhedron(FACES, FACES[:, 0] + 0.5), set=rows(FACES, -NOTHING, FACES[:, 0] + 0.5), rtol=1e-8
    ),
    "transport polytope": Case(lambda: sets.TransportPolytope(ROWS, COLUMNS), (2, 3, 4), set=plans(ROWS, COLUMNS)),
    "Birkhoff polytope": Case(
        lambda: sets.Birkhoff(3), (2, 3, 3), set=plans(torch.ones(3, dtype=D), torch.ones(3, dtype=D))
    ),
    "isotonic": Case(sets.Isotonic, set=Set(lambda x: below(-x.diff(dim=-1), 0), lambda z: z.sort(dim=-1).values)),
    "second-order cone": Case(
        sets.SecondOrderCone,
        set=Set(
            lambda x: below(l2(x[..., :-1]), x[..., -1:]),
            lambda z: torch.cat([z[..., :-1], l2(z[..., :-1]) + z[..., -1:].abs()], dim=-1),
        ),
    ),
    "positive semi-definite": Case(
        sets.PSDCone,
        (2, 3, 3),
        set=Set(lambda x: below(-torch.linalg.eigvalsh(x), 1e-9 * size(x)) and equal(x.mH, x), lambda z: z @ z.mH),
    ),
    "positive semi-definite, complex": Case(
        sets.PSDCone,
        (2, 3, 3),
        set=Set(lambda x: below(-torch.linalg.eigvalsh(x), 1e-9 * size(x)) and equal(x.mH, x), lambda z: z @ z.mH),
        complex=True,
    ),
    "Stiefel": Case(sets.Stiefel, (2, 4, 3), set=Set(orthonormal, lambda z: torch.linalg.qr(z).Q)),
    "Stiefel, complex": Case(
        sets.Stiefel, (2, 4, 3), set=Set(orthonormal, lambda z: torch.linalg.qr(z).Q), complex=True
    ),
    "low rank": Case(
        lambda: sets.LowRank(1), (2, 3, 4), set=Set(rank_one, lambda z: z[..., :1] @ z[..., :1, :] / size(z))
    ),
    "intersection": Case(
        lambda: sets.Intersection([sets.NonNegative(), sets.Hyperplane(torch.ones(6, dtype=D), 2.0)], tol=1e-12),
        set=simplex(2.0, slack=1e-5),  # for signals of 1e6
        rtol=1e-8,
    ),
    "l2 norm": Case(lambda: penalties.L2Norm(0.7), f=lambda x: 0.7 * l2(x).sum()),
    "l2 norm, complex": Case(lambda: penalties.L2Norm(0.7), f=lambda x: 0.7 * l2(x).sum(), complex=True),
    "squared l2": Case(lambda: penalties.SquaredL2(0.7), f=lambda x: 0.35 * x.abs().square().sum()),
    "group l1": Case(lambda: penalties.GroupL1(GROUPS, 0.7), f=lambda x: 0.7 * groups(x).sum()),
    "group l1, consecutive and complex": Case(
        lambda: penalties.GroupL1(2, 0.7), f=lambda x: 0.7 * l2(x.reshape(2, 3, 2)).sum(), complex=True
    ),
    "elastic net": Case(
        lambda: penalties.ElasticNet(0.7, 0.5), f=lambda x: 0.7 * (x.abs().sum() + 0.25 * x.abs().square().sum())
    ),
    "Huber": Case(lambda: penalties.Huber(0.7, 0.5), f=lambda x: 0.7 * huber(x)),
    "Huber, complex": Case(lambda: penalties.Huber(0.7, 0.5), f=lambda x: 0.7 * huber(x), complex=True),
    "log barrier": Case(lambda: penalties.LogBarrier(0.7), f=lambda x: 0.7 * barrier(x)),
    "Kullback-Leibler": Case(lambda: penalties.KullbackLeibler(WEIGHTS.relu(), 0.7), f=lambda x: 0.7 * divergence(x)),
    "nuclear norm": Case(
        lambda: penalties.NuclearNorm(0.7), (2, 3, 4), f=lambda x: 0.7 * torch.linalg.svdvals(x).sum()
    ),
    "nuclear norm, complex": Case(
        lambda: penalties.NuclearNorm(0.7), (2, 4, 3), f=lambda x: 0.7 * torch.linalg.svdvals(x).sum(), complex=True
    ),
    "total variation": Case(lambda: penalties.TotalVariation1d(0.7), f=lambda x: 0.7 * variation(x)),
    "total variation of images": Case(
        lambda: penalties.TotalVariation2d(0.7, tol=1e-5), (2, 3, 4), f=lambda x: 0.7 * lengths(x, 2), rtol=1e-5
    ),
    "total variation of images, anisotropic": Case(
        lambda: penalties.TotalVariation2d(0.7, isotropic=False, tol=1e-5),
        (2, 3, 4),
        f=lambda x: 0.7 * lengths(x, 1),
        rtol=1e-5,
    ),
    "weighted": Case(lambda: penalties.Weighted(unroll.SoftThreshold(0.7), 2.0), f=lambda x: 1.4 * x.abs().sum()),
    "rescaled": Case(lambda: penalties.Rescaled(penalties.Huber(1.0, 0.5), -2.0), f=lambda x: huber(-2 * x)),
    "rescaled set": Case(lambda: penalties.Rescaled(sets.L2Ball(3.0), -2.0), set=ball(l2, 1.5)),
    "translated": Case(
        lambda: penalties.Translated(penalties.L2Norm(0.7), WEIGHTS), f=lambda x: 0.7 * l2(x - WEIGHTS).sum()
    ),
    "translated set": Case(lambda: penalties.Translated(sets.L2Ball(1.5), WEIGHTS), set=moved(ball(l2, 1.5), WEIGHTS)),
    "quadratic perturbation": Case(
        lambda: penalties.QuadraticPerturbation(penalties.L2Norm(0.7), 0.5, WEIGHTS),
        f=lambda x: 0.7 * l2(x).sum() + 0.25 * (x - WEIGHTS).square().sum(),
    ),
    "conjugate": Case(
        lambda: penalties.Conjugate(penalties.ElasticNet(0.7, 0.5)),
        f=lambda x: (x.abs() - 0.7).relu().square().sum() / 0.7,
    ),
    "conjugate of a set": Case(lambda: penalties.Conjugate(sets.L1Ball(0.7)), f=lambda x: 0.7 * largest(x).sum()),
    "separable": Case(
        lambda: penalties.Separable([unroll.SoftThreshold(0.7), penalties.L2Norm(0.5)], [4, 2]),
        f=lambda x: 0.7 * x[..., :4].abs().sum() + 0.5 * l2(x[..., 4:]).sum(),
    ),
    "denoiser": Case(lambda: penalties.Denoiser(torch.tanh)),
}
