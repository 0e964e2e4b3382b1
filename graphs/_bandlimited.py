"""The front door of bandlimited projection: exact where that is affordable, else the next best, and it says which."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor

from graphs._galerkin import CoarseLowPass
from graphs._laplacian import Laplacian, StencilLaplacian
from graphs._projectors import BandlimitedProjector, ChebyshevLowPass
from graphs._spectrum import dimension, eigenbasis
from unroll import ProximalOperator

logger = logging.getLogger(__name__)

Method = Literal["exact", "coarse", "chebyshev"]

EXACT_NODES = 40_000
EXACT_NUMBERS = 40_000_000
"""Up to this many nodes, and numbers n k of U_k, eigenvectors take minutes and 300 MB at most."""
COARSE_K = 1000
"""Up to this k the coarse form is much faster than the polynomial one; its set-up is cubic in k."""


class Bandlimited(ProximalOperator):
    """The projection onto span(U_k) as well as it can be afforded, by one of three methods.

    ``"exact"``
        :class:`BandlimitedProjector`, by eigenvectors: to the 1e-6 that :func:`eigenbasis` verifies.
    ``"coarse"``
        :class:`CoarseLowPass`, for matting Laplacians of any size: some 3 to 10 per cent off on the changes that a
        solver makes to a photograph.
    ``"chebyshev"``
        :class:`ChebyshevLowPass`, for any graph, without eigenvectors: as far off on these, at a higher price.

    On white noise, which has as much energy at the cutoff as anywhere, the last two are further off: ``expected_error``
    says how much, and :meth:`distance` measures it for a signal of yours.

    Args:
        laplacian: L.
        k: how many eigenvectors, an integer or a fraction of n in (0, 1).
        method: one of the three, or "auto": exact up to 40,000 nodes and n k = 4e7, beyond that coarse where it applies
            and k <= 1000, else chebyshev. The choice is logged (INFO), kept in ``method``, and shown by print.
        order: of the polynomial, where that is the method; None as in :class:`ChebyshevLowPass`.
        dtype: in which U_k is kept, where that is the method; that of the signals saves a conversion at each call.

    It is what ``operator``, one of these three, is: linear and the prox of a convex quadratic; idempotent, which the
    instance says, where exact. Signals, devices, costs and errors are theirs.

    Attributes: ``operator``, ``method``, ``k`` (an integer), ``laplacian``.
    """

    linear = True

    def __init__(
        self,
        laplacian: Laplacian,
        k: int | float,
        *,
        method: Method | Literal["auto"] = "auto",
        order: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.laplacian, self.k = laplacian, dimension(k, laplacian.n)
        self.method: Method = _choice(laplacian, self.k) if method == "auto" else method
        self.operator: BandlimitedProjector | CoarseLowPass | ChebyshevLowPass
        if self.method == "exact":
            self.operator = BandlimitedProjector(eigenbasis(laplacian, self.k, dtype=dtype)).to(laplacian.device)
        elif self.method == "coarse":
            self.operator = CoarseLowPass(laplacian, self.k)
        elif self.method == "chebyshev":
            self.operator = ChebyshevLowPass(laplacian, k=self.k, order=order)
        else:
            raise ValueError(f"method must be 'auto', 'exact', 'coarse' or 'chebyshev', got {method!r}")
        self.idempotent = self.operator.idempotent  # type: ignore[misc]  # known per instance
        logger.info("bandlimited to k = %d of %d nodes: %s", self.k, laplacian.n, self.method)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return the projection of v, or what stands for it; tau is idle."""
        projected: Tensor = self.operator(v, tau, t=t)
        return projected

    def distance(self, v: Tensor) -> float:
        """Return the relative error for v, ||P v - Q v|| / ||Q v||, by a finer polynomial Q; 1e-6 at most where exact.

        Cost: unless exact, a call of :class:`ChebyshevLowPass` at 16 times its default order.
        """
        return 1e-6 if isinstance(self.operator, BandlimitedProjector) else self.operator.distance(v)

    @property
    def expected_error(self) -> float:
        """The relative error to expect of white noise: :meth:`distance` of one channel of it, at its cost."""
        noise = torch.randn(self.laplacian.n, 1, generator=torch.Generator().manual_seed(0))
        return self.distance(noise.to(self.laplacian.device))

    def extra_repr(self) -> str:
        """Return what print shows."""
        return f"method={self.method!r}, k={self.k}"


def _choice(laplacian: Laplacian, k: int) -> Method:
    if laplacian.n <= EXACT_NODES and laplacian.n * k <= EXACT_NUMBERS:
        return "exact"
    coloured = isinstance(laplacian, StencilLaplacian) and laplacian.grid_shape and laplacian.near_kernel is not None
    return "coarse" if coloured and k <= COARSE_K else "chebyshev"
