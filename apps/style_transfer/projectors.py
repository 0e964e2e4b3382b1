"""The operators that the command line can put into the loop, by name, and the photorealistic preset."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from graphs import Around, Bandlimited, CoarseTikhonov, DirichletBall, GuidedFilter, Laplacian, Tikhonov, matting
from unroll import Box, Operator

log = logging.getLogger(__name__)

PROJECTORS = (
    "none",
    "matting",
    "matting-chebyshev",
    "matting-coarse",
    "matting-energy",
    "tikhonov",
    "tikhonov-coarse",
    "guided",
    "box",
)
DOMAINS = ("difference", "image")
METHODS: dict[str, Literal["auto", "coarse", "chebyshev"]] = {
    "matting": "auto",
    "matting-coarse": "coarse",
    "matting-chebyshev": "chebyshev",
}


@dataclass(frozen=True)
class ProjectorOptions:
    """Which operator, and its parameters.

    Attributes:
        name: one of :data:`PROJECTORS`. ``matting`` is the projection onto span(U_k), the k-bandlimited signals of the
            photograph's matting Laplacian L; ``matting-chebyshev`` its polynomial form of an ``order``,
            ``matting-coarse`` the one for large images, by local models; ``matting-energy`` is the projection onto
            {X : Tr(X^T L X) / n <= energy}; ``tikhonov`` is (I + gamma L)^-1, and ``tikhonov-coarse`` the same among
            local models; ``guided`` is the guided filter; ``box`` is [0, 1].
        k: the number of eigenvectors, or, below 1, their share of the number of pixels.
        energy: what ``matting-energy`` leaves of the matting energy, of a pixel, > 0.
        gamma: weight of the Tikhonov regulariser.
        order: order of the polynomial; None takes what keeps the mean of the change, see
            :class:`graphs.ChebyshevLowPass`. A lower one is faster and weakens the whole change.
        radius: of the windows of the guided filter, at least 1.
        eps: of the matting Laplacian, see :func:`graphs.matting`, and of the guided filter: the variance of colours in
            a window below which the photograph counts as flat. With the usual 1e-7 the steps of 8 bits in a sky count
            as edges.
        domain: what is projected, the "difference" X - X_c from the photograph (the projection onto X_c + span(U_k))
            or the "image" X.
        strength: s in [0, 1], about the share of what P takes out that goes: 0 is no operator at all, 1 is P; between
            them see :meth:`at_full_strength`.
        again: learned steps that a call takes beyond its N, ``strength`` times as many, unless it is told how many:
            they make good what P undoes of the others. See :meth:`steps`.
    """

    name: str = "none"
    k: float = 200
    energy: float = 4e-4
    gamma: float = 1e3
    order: int | None = None
    radius: int = 8
    eps: float = 1e-7
    domain: str = "difference"
    strength: float = 1.0
    again: int = 0

    def __post_init__(self) -> None:
        """Refuse names and values that mean nothing."""
        if self.name not in PROJECTORS:
            raise ValueError(f"unknown projector {self.name!r}: choose one of {', '.join(PROJECTORS)}")
        if self.domain not in DOMAINS:
            raise ValueError(f"unknown domain {self.domain!r}: choose one of {', '.join(DOMAINS)}")
        if not (0 < self.k < 1 or (self.k >= 1 and float(self.k).is_integer())):
            raise ValueError(f"k must be a whole number from 1 on, or a share between 0 and 1, got {self.k:g}")
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be a number of at least 0, got {self.gamma:g}")
        for name in ("energy", "eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number above 0, got {getattr(self, name):g}")
        if self.order is not None and self.order < 1:
            raise ValueError(f"the order must be at least 1, got {self.order}")
        if self.radius < 1:
            raise ValueError(f"the radius of the guided filter must be at least 1, got {self.radius}")
        if self.again < 0:
            raise ValueError(f"the number of steps taken again must be at least 0, got {self.again}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the strength of a projector (--photo-strength) is from 0 to 1, got {self.strength:g}")

    @property
    def idle(self) -> bool:
        """Whether nothing stands in the loop."""
        return self.name == "none" or self.strength == 0

    def steps(self, trained: int) -> float:
        """Return how many learned steps of ``trained`` ones a call takes: so many and s ``again``, or, idle, so many.

        A half step is one of half the length, so this is as continuous in s as the constraint.
        """
        return trained if self.idle else trained + self.strength * self.again

    def at_full_strength(self, steps: int) -> tuple[ProjectorOptions, float]:
        """Return the options of P, and the share m of P_m (:class:`Mixed`) that stands for the strength in N steps.

        ``matting-energy`` has a strength of its own, the energy e: it is e / s^1.5, which holds no picture back as s
        goes to 0, and the projection stays one. What is mixed is all others, see :func:`share_of`.
        """
        if self.strength == 1:
            return self, 1.0
        if self.name == "matting-energy":
            return replace(self, energy=self.energy / self.strength**1.5, strength=1.0), 1.0
        return replace(self, strength=1.0), share_of(self.strength, steps)


PHOTO = ProjectorOptions("matting-energy", energy=2.2e-3, eps=1e-3, again=2)
"""The preset of ``--photo``; docs/photorealism.md says what it was chosen from."""


def build_projector(options: ProjectorOptions, content: Tensor, *, steps: int = 4) -> Operator | None:
    """Return the operator for a photograph (1, 3, H, W) in [0, 1], on its device; None where it would be idle.

    ``steps`` are the iterations that it is to stand in, by which a strength below 1 is spread (:func:`share_of`).
    """
    if options.idle:
        return None
    whole, share = options.at_full_strength(steps)
    operator = _whole(whole, content)
    return operator if share == 1 else Mixed(operator, share)


class Mixed(Operator):
    """P_m(v) = v + m (P(v) - v), 0 <= m <= 1: what stands between no constraint and P.

    Where P is the prox of a convex function so is P_m: both are non-expansive gradients of convex functions, and those
    are the proximal operators (J.-J. Moreau, 1965).
    """

    def __init__(self, operator: Operator, share: float) -> None:
        super().__init__()
        self.operator, self.share = operator, share
        self.convex, self.linear = operator.convex, operator.linear  # type: ignore[misc]  # known per instance only

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return P_m(v)."""
        mixed: Tensor = torch.lerp(v, self.operator(v, tau, t=t), self.share)
        return mixed


def share_of(strength: float, steps: int) -> float:
    r"""Return the share m of P in P_m such that N steps leave 1 - s of what P takes out of the updates:

    .. math:: \frac1N \sum_{t=0}^{N-1} (1 - m)^{N-t} = 1 - s,

    for of that part of g_t, (1 - m)^(N - t) is left in the result. m = s would be felt between 0 and 1/2 alone: at
    m = 1/2 a quarter of the strokes is left after four steps, and hardly any after fifty. With this, the edge SSIM with
    the photograph rises about evenly with s; along gamma it does not begin at the artistic picture, for however small
    gamma is the coarse preset drops what is not locally affine in the image.
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        left = (low + high) / 2
        short = sum(left**k for k in range(1, steps + 1)) < (1 - strength) * steps
        low, high = (left, high) if short else (low, left)
    return 1 - high


def _whole(options: ProjectorOptions, content: Tensor) -> Operator:
    if options.name == "box":
        return Box(0.0, 1.0)
    operator: Operator
    if options.name == "guided":
        operator = GuidedFilter(content, min(options.radius, min(content.shape[-2:]) - 1), options.eps)
    else:
        operator = _build(options, matting(content, eps=options.eps).to(content.device), content)
    return Around(operator, content) if options.domain == "difference" else operator


def _build(options: ProjectorOptions, laplacian: Laplacian, content: Tensor) -> Operator:
    k = int(options.k) if options.k >= 1 else options.k
    name = options.name
    if name == "tikhonov":
        return Tikhonov(laplacian, options.gamma)
    if name == "tikhonov-coarse":
        return CoarseTikhonov(laplacian, options.gamma)
    if name == "matting-energy":
        return DirichletBall(laplacian, options.energy)
    try:
        projector = Bandlimited(laplacian, k, method=METHODS[name], order=options.order, dtype=content.dtype)
    except RuntimeError as error:
        if name != "matting":
            raise
        # The eigenvectors missed their tolerance, or a factor is singular: the picture's doing, not the program's.
        raise ValueError(f"no exact matting projector ({error}): take matting-chebyshev or tikhonov") from error
    if name == "matting" and projector.method != "exact":
        log.warning("%d pixels are beyond the exact projector: taking matting-%s", laplacian.n, projector.method)
    return projector
