"""Projections onto sets, by the name of the set C: :class:`unroll.Projector`, P_C(v) = argmin_{x in C} ||x - v||^2.

Vectors lie along the last dimension of the signal and matrices in the last two; the dimensions before are batch. All
are differentiable almost everywhere, in v and in what they were given as a tensor, unless they say otherwise, and work
under ``torch.func.vmap``. Sets that are not convex say so (``convex = False``).

======================  ==========================================================================
entry by entry          Box, Hypercube, NonNegative, LinfBall
linear                  Hyperplane, HalfSpace, AffineSet, Subspace, Polyhedron, BoxSection
norms                   L1Ball, L2Ball, GroupBall; not convex: L1Sphere, L2Sphere
sums and orders         Simplex, Isotonic; TransportPolytope and Birkhoff for matrices
cones                   SecondOrderCone, PSDCone
not convex              Sparse, SparseSimplex, LowRank, Stiefel
several at once         Intersection
======================  ==========================================================================
"""

from unroll._proximal import Box, Subspace
from unroll.sets._affine import AffineSet, HalfSpace, Hyperplane
from unroll.sets._balls import L2Ball, L2Sphere, LinfBall
from unroll.sets._chains import Isotonic
from unroll.sets._cones import PSDCone, SecondOrderCone
from unroll.sets._entrywise import Hypercube, NonNegative
from unroll.sets._intersection import Intersection
from unroll.sets._matrices import LowRank, Stiefel
from unroll.sets._polyhedron import Polyhedron
from unroll.sets._section import BoxSection
from unroll.sets._simplex import GroupBall, L1Ball, L1Sphere, Simplex, SparseSimplex
from unroll.sets._sparse import Sparse
from unroll.sets._transport import Birkhoff, TransportPolytope

__all__ = [
    "AffineSet",
    "Birkhoff",
    "Box",
    "BoxSection",
    "GroupBall",
    "HalfSpace",
    "Hypercube",
    "Hyperplane",
    "Intersection",
    "Isotonic",
    "L1Ball",
    "L1Sphere",
    "L2Ball",
    "L2Sphere",
    "LinfBall",
    "LowRank",
    "NonNegative",
    "PSDCone",
    "Polyhedron",
    "SecondOrderCone",
    "Simplex",
    "Sparse",
    "SparseSimplex",
    "Stiefel",
    "Subspace",
    "TransportPolytope",
]
