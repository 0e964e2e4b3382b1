"""Unrolled solvers: learned updates, projectors put in at run time, and nothing else.

An unrolled solver iterates ``x <- P[x - g_t(x)]`` for a fixed number of steps, with an update g_t that is learned
(:class:`LearnedUpdate`) or exact (:class:`GradientStep`) and an operator P (:class:`Operator`) that is an argument of
the call. Nothing in here knows what x is: an image, a vector of coefficients, a field.

Source of the idea of unrolling: K. Gregor and Y. LeCun, "Learning fast approximations of sparse coding", ICML 2010.
Source of the projector swapped at run time: G. Puy and P. Perez, "A flexible convolutional solver with application to
photorealistic style transfer", arXiv:1806.05285.
"""

from unroll import penalties, recipes, sets
from unroll._acceleration import Accelerated, Anderson, Nesterov
from unroll._adjoint import Adjoint, Backprop, Checkpointed, Truncated
from unroll._fit import Fitted, fit
from unroll._implicit import Implicit, JacobianFree
from unroll._iteration import Iteration, Probe
from unroll._linear import conjugate_gradient, gmres
from unroll._linear_map import LeastSquares, LinearMap
from unroll._loss import Loss, WeightedSum
from unroll._operator import Compose, Identity, Operator, Projector, ProximalOperator
from unroll._proximal import Box, SoftThreshold, Subspace
from unroll._scheme import Backtracking, ForwardBackward, Scheme, Step
from unroll._solver import Solution, Unrolled
from unroll._splitting import ADMM, ChambollePock, DouglasRachford, HalfQuadraticSplitting
from unroll._status import Status, Tolerance
from unroll._training._loss import Solve, Supervised, Unsupervised
from unroll._training._progress import Progress
from unroll._training._schedule import StageWise, Trapezoid
from unroll._update import GradientStep, LearnedUpdate, PerStep, Prolonged, ProximalStep, Scaled

__all__ = [
    "ADMM",
    "Accelerated",
    "Adjoint",
    "Anderson",
    "Backprop",
    "Backtracking",
    "Box",
    "ChambollePock",
    "Checkpointed",
    "Compose",
    "DouglasRachford",
    "Fitted",
    "ForwardBackward",
    "GradientStep",
    "HalfQuadraticSplitting",
    "Identity",
    "Implicit",
    "Iteration",
    "JacobianFree",
    "LearnedUpdate",
    "LeastSquares",
    "LinearMap",
    "Loss",
    "Nesterov",
    "Operator",
    "PerStep",
    "Probe",
    "Progress",
    "Projector",
    "Prolonged",
    "ProximalOperator",
    "ProximalStep",
    "Scaled",
    "Scheme",
    "SoftThreshold",
    "Solution",
    "Solve",
    "StageWise",
    "Status",
    "Step",
    "Subspace",
    "Supervised",
    "Tolerance",
    "Trapezoid",
    "Truncated",
    "Unrolled",
    "Unsupervised",
    "WeightedSum",
    "conjugate_gradient",
    "fit",
    "gmres",
    "penalties",
    "recipes",
    "sets",
]
