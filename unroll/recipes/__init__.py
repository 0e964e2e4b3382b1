"""Recipes: solvers of the literature as short compositions of the core, each with its paper.

Each is a function of the real matrix A that returns an :class:`unroll.Unrolled` for y = A x with a sparse x, to be
called as ``solver(x0, y)``, x0 (B, n) and y (B, m). The shrinkage is a part of the update, so no projector is needed;
one that is passed is applied after it. What is learned has the dtype and device of A.

======================  ==========================================================================
the problem             SparseRecovery, analytic_weights
nothing learned         ista, fista
learned                 lista, lista_cp, tilista, alista; the option of the last three: Selection
======================  ==========================================================================
"""

from unroll.recipes._shrinkage import Selection
from unroll.recipes._sparse_problem import SparseRecovery
from unroll.recipes._sparse_solvers import alista, fista, ista, lista, lista_cp, tilista
from unroll.recipes._weights import analytic_weights

__all__ = [
    "Selection",
    "SparseRecovery",
    "alista",
    "analytic_weights",
    "fista",
    "ista",
    "lista",
    "lista_cp",
    "tilista",
]
