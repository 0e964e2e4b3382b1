"""Recipes: solvers of the literature as short compositions of the core, each with its paper.

Each is a function that returns an :class:`unroll.Unrolled`, to be called as ``solver(x0, y)``. Those of sparse recovery
are functions of a real matrix A, for y = A x with a sparse x, x0 (B, n) and y (B, m); their shrinkage is a part of the
update, so that no projector is needed, and what is learned has the dtype and device of A. The others are functions of
any linear operator and its adjoint, or of the proximal operator of the data's term. A projector that is passed at the
call is applied last in every step.

======================  ==========================================================================
the problem             SparseRecovery, analytic_weights, LeastSquaresProx
nothing learned         ista, fista, plug_and_play
learned, sparse         lista, lista_cp, tilista, alista, alista_at, na_alista; an option: Selection
learned, any operator   learned_admm, learned_projected_gradient, learned_primal_dual, deep_equilibrium
to write more           RecurrentUpdate, Recurrent: updates with a memory
======================  ==========================================================================
"""

from unroll.recipes._multipliers import LeastSquaresProx, learned_admm
from unroll.recipes._networks import deep_equilibrium, learned_projected_gradient, plug_and_play
from unroll.recipes._primal_dual import learned_primal_dual
from unroll.recipes._recurrent import Recurrent, RecurrentUpdate
from unroll.recipes._shrinkage import Selection
from unroll.recipes._sparse_problem import SparseRecovery
from unroll.recipes._sparse_solvers import alista, alista_at, fista, ista, lista, lista_cp, na_alista, tilista
from unroll.recipes._weights import analytic_weights

__all__ = [
    "LeastSquaresProx",
    "Recurrent",
    "RecurrentUpdate",
    "Selection",
    "SparseRecovery",
    "alista",
    "alista_at",
    "analytic_weights",
    "deep_equilibrium",
    "fista",
    "ista",
    "learned_admm",
    "learned_primal_dual",
    "learned_projected_gradient",
    "lista",
    "lista_cp",
    "na_alista",
    "plug_and_play",
    "tilista",
]
