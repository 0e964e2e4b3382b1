"""The operators that the command line can put into the loop, by name, and the photorealistic preset."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from graphs import Around, Bandlimited, CoarseTikhonov, Laplacian, Tikhonov, matting
from unroll import Box, Operator

log = logging.getLogger(__name__)

PROJECTORS = ("none", "matting", "matting-chebyshev", "matting-coarse", "tikhonov", "tikhonov-coarse", "box")
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
