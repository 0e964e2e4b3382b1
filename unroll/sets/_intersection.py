"""The intersection of convex sets."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from unroll._operator import Projector
from unroll.sets._base import norm

logger = logging.getLogger(__name__)


class Intersection(Projector):
    """Projection onto the intersection of convex sets, by Dykstra's algorithm: the nearest point of it.

    Unlike :class:`unroll.Compose`, whose rounds end in some point of the intersection, each set is given back what it
    took in the round before: x <- P_i(x + y_i), y_i <- x + y_i - P_i(x + y_i), i = 1..k, again and again.

    Args:
        projectors: of convex sets, at least one; their intersection must not be empty.
        tol: a sample, along the last dimension, is done when the y_i and x change by at most
            ``tol`` (1 + ||v||) in a round.
        max_iter: of rounds. Where it gives up, it warns (logging) and says by how much they still change.

    Shapes: those that every projector takes. Cost: k projections a round; convergence is linear for polyhedra, and may
    be slow where sets meet at a small angle. Differentiated through its rounds, at the memory of all of them. Within
    torch.func transforms, which do not let it look at values, it takes all ``max_iter`` rounds.

    Source: J. Boyle and R. Dykstra, "A method for finding projections onto the intersection of convex sets in Hilbert
    spaces", 1986; E. Birgin and M. Raydan, "Robust stopping criteria for Dykstra's algorithm", 2005.
    """

    def __init__(self, projectors: Iterable[Projector], *, tol: float = 1e-7, max_iter: int = 1000) -> None:
        super().__init__()
        self.projectors = nn.ModuleList(projectors)
        if not self.projectors:
            raise ValueError("Intersection needs at least one projector")
        for projector in self.projectors:
            if not (isinstance(projector, Projector) and projector.convex):
                raise TypeError(
                    f"Intersection needs projectors onto convex sets, and {type(projector).__name__} is none: "
                    "apply one after another with unroll.Compose"
                )
        if not tol > 0 or max_iter < 1:
            raise ValueError(f"tol must be above 0 and max_iter at least 1, got {tol} and {max_iter}")
        self.tol, self.max_iter = tol, max_iter

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return the nearest point of the intersection; tau and t are idle."""
        if len(self.projectors) == 1:
            nearest: Tensor = self.projectors[0](v)
            return nearest
        looking = torch._C._functorch.peek_interpreter_stack() is None
        corrections = [torch.zeros_like(v) for _ in self.projectors]
        x, bound = v, self.tol * (1 + norm(v.detach()))
        for _ in range(self.max_iter):
            before, last = x, corrections
            corrections = []
            for projector, correction in zip(self.projectors, last, strict=True):
                raised = x + correction
                x = projector(raised)
                corrections.append(raised - x)
            if looking:
                with torch.no_grad():
                    changes = [norm(new - old) for new, old in zip([x, *corrections], [before, *last], strict=True)]
                    excess = torch.stack(changes).amax(0) - bound
                    if not bool((excess > 0).any()):
                        break
        else:
            if looking:
                logger.warning(
                    "Intersection stopped after max_iter=%d rounds: it still changes by %.1e a round, above tol=%.1e",
                    self.max_iter,
                    float((excess + bound).max()),
                    self.tol,
                )
        return x
