"""The operators that the command line can put into the loop, by name, and the photorealistic preset."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from torch import Tensor

from graphs import (
    Around,
    BandlimitedProjector,
    ChebyshevLowPass,
    CoarseLowPass,
    CoarseTikhonov,
    Laplacian,
    Tikhonov,
    eigenbasis,
    matting,
)
from unroll import Box, Operator

log = logging.getLogger(__name__)

PROJECTORS = ("none", "matting", "matting-chebyshev", "matting-coarse", "tikhonov", "tikhonov-coarse", "box")
DOMAINS = ("difference", "image")
EXACT_PIXELS = 40_000
"""Up to this many pixels ``matting`` computes the eigenvectors U_k; beyond, it takes a fast form."""
COARSE_K = 1000
"""Up to this k that is the coarse one, beyond it the polynomial one."""


@dataclass(frozen=True)
class ProjectorOptions:
    """Which operator, and its parameters.

    Attributes:
        name: one of :data:`PROJECTORS`. ``matting`` is the projection onto span(U_k), the k-bandlimited signals of the
            photograph's matting Laplacian L; ``matting-chebyshev`` its polynomial form of an ``order``,
            ``matting-coarse`` the one for large images, by local models; ``tikhonov`` is (I + gamma L)^-1, and
            ``tikhonov-coarse`` the same among local models; ``box`` is [0, 1].
        k: the number of eigenvectors, or, below 1, their share of the number of pixels.
        gamma: weight of the Tikhonov regulariser.
        order: order of the polynomial; None takes what keeps the mean of the change, see
            :class:`graphs.ChebyshevLowPass`. A lower one is faster and weakens the whole change.
        domain: what is projected, the "difference" X - X_c from the photograph (the projection onto X_c + span(U_k))
            or the "image" X.
    """

    name: str = "none"
    k: float = 200
    gamma: float = 1e3
    order: int | None = None
    domain: str = "difference"

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
        if self.order is not None and self.order < 1:
            raise ValueError(f"the order must be at least 1, got {self.order}")


PHOTO = ProjectorOptions("tikhonov-coarse", gamma=1e3)
"""The preset of ``--photo``. With gamma = 100 a hazy sky shows the steps of its 8 bits as blotches; not with 1000."""


def build_projector(options: ProjectorOptions, content: Tensor) -> Operator | None:
    """Return the operator for a photograph (1, 3, H, W) in [0, 1], on its device; None for "none"."""
    if options.name == "none":
        return None
    if options.name == "box":
        return Box(0.0, 1.0)
    laplacian = matting(content).to(content.device)
    operator = _build(options, laplacian, content)
    return Around(operator, content) if options.domain == "difference" else operator


def _build(options: ProjectorOptions, laplacian: Laplacian, content: Tensor) -> Operator:
    k = int(options.k) if options.k >= 1 else options.k
    name = options.name
    if name == "tikhonov":
        return Tikhonov(laplacian, options.gamma)
    if name == "tikhonov-coarse":
        return CoarseTikhonov(laplacian, options.gamma)
    if name == "matting" and laplacian.n <= EXACT_PIXELS:
        try:
            basis = eigenbasis(laplacian, k).vectors
        except RuntimeError as error:
            # Lanczos has not converged, or a factor is singular: the picture's doing, not the program's.
            raise ValueError(f"no exact matting projector ({error}): take matting-chebyshev or tikhonov") from error
        return BandlimitedProjector(basis.to(content))
    if name == "matting":
        name = "matting-coarse" if (k if k >= 1 else k * laplacian.n) <= COARSE_K else "matting-chebyshev"
        log.warning("%d pixels are beyond the exact projector (%d): taking %s", laplacian.n, EXACT_PIXELS, name)
    if name == "matting-coarse":
        return CoarseLowPass(laplacian, k)
    return ChebyshevLowPass(laplacian, k=k, order=options.order)
