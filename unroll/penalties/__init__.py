"""Proximal operators, by the name of the function: prox_{tau f}(v) = argmin_x f(x) + 1/(2 tau) ||x - v||^2.

Vectors lie along the last dimension of the signal and matrices in the last two; the dimensions before are batch. All
are differentiable almost everywhere, in v, tau and their parameters, and work under ``torch.func.vmap``. The prox of an
indicator is the projector itself: see :mod:`unroll.sets`.

======================  ==========================================================================
sums over the entries   SoftThreshold (l1), SquaredL2, ElasticNet, Huber, LogBarrier, KullbackLeibler
norms of vectors        L2Norm, GroupL1
matrices and images     NuclearNorm, TotalVariation1d, TotalVariation2d
calculus                Weighted, Rescaled, Translated, QuadraticPerturbation, Conjugate, Separable
plug and play           Denoiser
======================  ==========================================================================
"""

from unroll._proximal import SoftThreshold
from unroll.penalties._calculus import (
    Conjugate,
    QuadraticPerturbation,
    Rescaled,
    Separable,
    Translated,
    Weighted,
)
from unroll.penalties._denoiser import Denoiser
from unroll.penalties._entropies import KullbackLeibler, LogBarrier
from unroll.penalties._norms import ElasticNet, GroupL1, Huber, L2Norm, SquaredL2
from unroll.penalties._nuclear import NuclearNorm
from unroll.penalties._total_variation import TotalVariation1d, TotalVariation2d

__all__ = [
    "Conjugate",
    "Denoiser",
    "ElasticNet",
    "GroupL1",
    "Huber",
    "KullbackLeibler",
    "L2Norm",
    "LogBarrier",
    "NuclearNorm",
    "QuadraticPerturbation",
    "Rescaled",
    "Separable",
    "SoftThreshold",
    "SquaredL2",
    "TotalVariation1d",
    "TotalVariation2d",
    "Translated",
    "Weighted",
]
