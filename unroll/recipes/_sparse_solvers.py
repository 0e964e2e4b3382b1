"""Solvers of 1/2 ||A x - y||^2 + weight ||x||_1 and what has been learned in their place.

L is the largest eigenvalue of A^T A and eta_theta the shrinkage, sign(v) max(|v| - theta, 0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unroll._acceleration import Nesterov
from unroll._solver import Unrolled
from unroll._update import PerStep
from unroll.recipes._neural import NeuralShrinkage
from unroll.recipes._recurrent import Recurrent
from unroll.recipes._shrinkage import AdaptiveShrinkage, Encoder, Selection, SharedShrinkage, Shrinkage
from unroll.recipes._weights import analytic_weights


def ista(a: Tensor, steps: int, weight: float) -> Unrolled:
    """x <- eta_{weight / L}(x - A^T (A x - y) / L): minimises 1/2 ||A x - y||^2 + weight ||x||_1. No parameters.

    Source: I. Daubechies, M. Defrise and C. De Mol, "An iterative thresholding algorithm for linear inverse problems
    with a sparsity constraint", 2004.
    """
    bound = _bound(a)
    return Unrolled(Shrinkage(a, a, 1 / bound, weight / bound), steps=steps)


def fista(a: Tensor, steps: int, weight: float) -> Unrolled:
    """ISTA with Nesterov's extrapolation: the same minimum, an error of 1 / t^2 and not 1 / t. No parameters.

    Source: A. Beck and M. Teboulle, "A fast iterative shrinkage-thresholding algorithm", 2009.
    """
    bound = _bound(a)
    return Unrolled(Shrinkage(a, a, 1 / bound, weight / bound), steps=steps, scheme=Nesterov())


def lista(a: Tensor, steps: int, weight: float = 0.4) -> Unrolled:
    """x_{t+1} = eta_{theta_t}(W_e y + S_t x_t): begun as ISTA, learned in all its parts.

    It begins at W_e = A^T / L, S_t = I - A^T A / L, theta_t = weight / L.
    n m + steps (n^2 + 1) parameters: one W_e, and S and theta untied over the steps (tied in the first paper).

    Source: K. Gregor and Y. LeCun, "Learning fast approximations of sparse coding", ICML 2010; untied as in X. Chen et
    al., NeurIPS 2018.
    """
    bound = _bound(a)
    mixing = torch.eye(a.shape[1], dtype=a.dtype, device=a.device) - a.mT @ a / bound
    return Unrolled(Encoder(a.mT / bound, mixing, steps, weight / bound), steps=steps)


def lista_cp(a: Tensor, steps: int, weight: float = 0.4, *, selection: Selection | None = None) -> Unrolled:
    """x_{t+1} = eta_{theta_t}(x_t - W_t^T (A x_t - y)), begun as ISTA: W_t = A / L, theta_t = weight / L.

    steps (m n + 1) parameters. With ``selection`` it is LISTA-CPSS.

    Source: X. Chen, J. Liu, Z. Wang and W. Yin, "Theoretical linear convergence of unfolded ISTA and its practical
    weights and thresholds", NeurIPS 2018.
    """
    bound = _bound(a)
    updates = [
        Shrinkage(a, nn.Parameter(a / bound), 1.0, nn.Parameter(a.new_tensor(weight / bound)), selection)
        for _ in range(steps)
    ]
    return Unrolled(PerStep(updates), steps=steps)


def tilista(a: Tensor, steps: int, weight: float = 0.4, *, selection: Selection | None = None) -> Unrolled:
    """x_{t+1} = eta_{theta_t}(x_t - gamma_t W^T (A x_t - y)), begun as ISTA: W = A, gamma_t = 1 / L.

    m n + 2 steps parameters: one W for all steps.

    Source: J. Liu, X. Chen, Z. Wang and W. Yin, "ALISTA: analytic weights are as good as learned weights in LISTA",
    ICLR 2019.
    """
    bound = _bound(a)
    return Unrolled(SharedShrinkage(a, a, steps, 1 / bound, weight / bound, selection), steps=steps)


def alista(
    a: Tensor,
    steps: int,
    weight: float = 0.4,
    *,
    step_size: float = 1.0,
    weights: Tensor | None = None,
    selection: Selection | None = None,
) -> Unrolled:
    """x_{t+1} = eta_{theta_t}(x_t - gamma_t W^T (A x_t - y)): W is computed; gamma_t and theta_t are learned.

    2 steps parameters, begun at gamma_t = ``step_size`` and theta_t = weight / L. ``weights`` is W, by default
    :func:`analytic_weights`; like A it is not in the state dict. With W = A and step_size = 1 / L it begins as ISTA.

    Source: J. Liu et al., ICLR 2019.
    """
    return _analytic(Shrinkage, a, steps, weight, step_size, weights, selection)


def alista_at(
    a: Tensor,
    steps: int,
    weight: float = 0.4,
    *,
    step_size: float = 1.0,
    weights: Tensor | None = None,
    selection: Selection | None = None,
) -> Unrolled:
    """ALISTA with a threshold for each entry, theta_t / (1 + |x_i| / 0.1): what is large already is hardly shrunk.

    Arguments and parameters are those of :func:`alista`; at x = 0 it takes the same step.

    Source: D. Kim and D. Park, "Element-wise adaptive thresholds for learned iterative shrinkage thresholding
    algorithms", 2020; the form and the 0.1 are those that F. Behrens et al., ICLR 2021, compare with.
    """
    return _analytic(AdaptiveShrinkage, a, steps, weight, step_size, weights, selection)


def na_alista(
    a: Tensor,
    steps: int,
    *,
    hidden: int = 64,
    weights: Tensor | None = None,
    selection: Selection | None = None,
    scale: float | None = None,
) -> Unrolled:
    """ALISTA whose gamma and theta an LSTM chooses for each sample and step, from the l1 norms of residual and step.

    With b = A x_t - y and c = W^T b, x_{t+1} = eta_theta(x_t - gamma c). One network for all steps, of 4 hidden (hidden
    + 4) + hidden (hidden + 1) + 2 (hidden + 1) + 2 hidden parameters, so that it may run for more than it was trained
    for.

    It departs from the paper in what makes it learn in minutes: the network sees the logarithms of the norms, which
    fall by orders of magnitude, where the paper standardises them by the first batch, and theta is in units of mean|c|,
    as the theory of ALISTA has it, where the paper's has none.

    Args:
        hidden: the width of the network; the paper has 128.
        weights, selection: as for :func:`alista`.
        scale: s, for a threshold of theta / (1 + |x_i| / s) for each entry, as in :func:`alista_at`; None is the paper.

    Source: F. Behrens, J. Sauder and P. Jung, "Neurally augmented ALISTA", ICLR 2021.
    """
    if scale is not None and not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale}")
    _check(a)
    return Unrolled(NeuralShrinkage(a, _weights(a, weights), hidden, selection, scale), steps=steps, scheme=Recurrent())


def _analytic(
    kind: type[Shrinkage],
    a: Tensor,
    steps: int,
    weight: float,
    step_size: float,
    weights: Tensor | None,
    selection: Selection | None,
) -> Unrolled:
    bound, w = _bound(a), _weights(a, weights)
    updates = [
        kind(a, w, nn.Parameter(a.new_tensor(step_size)), nn.Parameter(a.new_tensor(weight / bound)), selection)
        for _ in range(steps)
    ]
    return Unrolled(PerStep(updates), steps=steps)


def _weights(a: Tensor, weights: Tensor | None) -> Tensor:
    w = analytic_weights(a) if weights is None else weights
    if w.shape != a.shape:
        raise ValueError(f"the weights must have the shape of A, {tuple(a.shape)}, got {tuple(w.shape)}")
    return w


def _bound(a: Tensor) -> float:
    _check(a)
    return float(torch.linalg.matrix_norm(a, 2)) ** 2


def _check(a: Tensor) -> None:
    if a.ndim != 2:
        raise ValueError(f"A must be a matrix (m, n), got the shape {tuple(a.shape)}")
    if not a.is_floating_point():
        raise TypeError(f"A must be real and of floating point, got {a.dtype}")
