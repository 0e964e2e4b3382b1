"""Unrolled solvers: learned updates, projectors put in at run time, and nothing else.

An unrolled solver iterates ``x <- P[x - g_t(x)]`` for a fixed number of steps, with an update g_t that is learned
(:class:`LearnedUpdate`) or exact (:class:`GradientStep`) and an operator P (:class:`Operator`) that is an argument of
the call. Nothing in here knows what x is: an image, a vector of coefficients, a field.

Source of the idea of unrolling: K. Gregor and Y. LeCun, "Learning fast approximations of sparse coding", ICML 2010.
Source of the projector swapped at run time: G. Puy and P. Perez, "A flexible convolutional solver with application to
photorealistic style transfer", arXiv:1806.05285.
"""

from unroll._adjoint import Adjoint, Backprop, Checkpointed
from unroll._loss import Loss, WeightedSum
from unroll._operator import Compose, Identity, Operator, Projector, ProximalOperator
from unroll._proximal import Box, SoftThreshold, Subspace
from unroll._solver import Probe, Solution, Unrolled
from unroll._update import GradientStep, LearnedUpdate, PerStep, Scaled

__all__ = [
    "Adjoint",
    "Backprop",
    "Box",
    "Checkpointed",
    "Compose",
    "GradientStep",
    "Identity",
    "LearnedUpdate",
    "Loss",
    "Operator",
    "PerStep",
    "Probe",
    "Projector",
    "ProximalOperator",
    "Scaled",
    "SoftThreshold",
    "Solution",
    "Subspace",
    "Unrolled",
    "WeightedSum",
]
