"""Total variation, along a signal and over an image."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from unroll.penalties._base import Penalty
from unroll.sets._base import Search
from unroll.sets._chains import mean_of_pieces

logger = logging.getLogger(__name__)


class TotalVariation1d(Penalty):
    """The prox of f(x) = weight sum_i |x_{i+1} - x_i|: a signal of constant pieces near v.

    Shapes: signals along the last dimension, the others are batch; ``weight`` broadcasts against (..., 1). Real. Exact,
    by Condat's direct algorithm, O(n) in practice; the pieces are found on the CPU, wherever v is. The derivative is
    that with the pieces fixed: the mean over each.

    Source: L. Condat, "A direct algorithm for 1-D total variation denoising", 2013.
    """

    point_dims = 1

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return the mean of v over each piece, moved by what its two jumps pull."""
        number = torch.as_tensor(strength, dtype=v.dtype, device=v.device)
        pieces = Search.apply(_pieces, v.detach(), number.detach().reshape(number.shape or (1,)))
        signs = pieces.diff(dim=-1).sign()
        pull = -torch.nn.functional.pad(signs, (1, 1)).diff(dim=-1)
        return mean_of_pieces(v, pieces) - number * mean_of_pieces(pull, pieces)


def _pieces(v: Tensor, strength: Tensor) -> Tensor:
    from unroll.sets import _kernels

    return _kernels.over_rows(_kernels.total_variation, v, strength)


class TotalVariation2d(Penalty):
    """The prox of f(x) = weight TV(x) of images: x = v - D^T p, p in the dual ball, by accelerated dual projection.

    D x are the differences to the next row and the next column, 0 at the border, and TV is the sum of their lengths:
    sqrt(d_1^2 + d_2^2) a pixel, or |d_1| + |d_2| if ``isotropic`` is False.

    Args:
        weight: >= 0, a number, or a tensor that broadcasts against (..., 1, 1).
        isotropic: as above.
        tol: the iteration stops where the duality gap is at most tol^2 ||v - mean(v)||^2 / 2 for every image; the error
            ||x - x*|| is then at most tol ||v - mean(v)||.
        max_iter: where it gives up, with a warning (logging) that says what was reached; never silently.

    Shapes: images in the last two dimensions, the others are batch. Real. Differentiated through its iterations, at the
    memory of all of them. Within torch.func transforms, which do not let it look at values, it takes all ``max_iter``.
    Cost: some ten passes over the image an iteration.

    Source: A. Beck and M. Teboulle, "Fast gradient-based algorithms for constrained total variation image denoising and
    deblurring problems", 2009; restarted as in B. O'Donoghue and E. Candes, "Adaptive restart for accelerated gradient
    schemes", 2015.
    """

    point_dims = 2

    def __init__(
        self, weight: float | Tensor = 1.0, *, isotropic: bool = True, tol: float = 1e-4, max_iter: int = 1000
    ) -> None:
        super().__init__(weight)
        if not tol > 0 or max_iter < 1:
            raise ValueError(f"tol must be above 0 and max_iter at least 1, got {tol} and {max_iter}")
        self.isotropic, self.tol, self.max_iter = isotropic, tol, max_iter

    def prox(self, v: Tensor, strength: float | Tensor) -> Tensor:
        """Return v - D^T p for the p that comes nearest to 0 in the dual."""
        looking = torch._C._functorch.peek_interpreter_stack() is None
        mean = v.mean((-2, -1), keepdim=True)
        v = v - mean  # TV does not see it, and in v it would cost digits.
        bound = self.tol**2 * v.detach().square().sum((-2, -1)) / 2
        p = q = torch.zeros_like(v)[..., None].expand(*v.shape, 2)
        k = torch.ones_like(mean)[..., None]
        for _ in range(self.max_iter):
            # ||D||^2 <= 8
            last, p = p, self._onto_dual_ball(q + _differences(v - _adjoint(q)) / 8, strength)
            wrong = ((q - p) * (p - last)).sum((-3, -2, -1), keepdim=True) > 0
            following = (1 + (1 + 4 * k * k).sqrt()) / 2
            q = p + torch.where(wrong, 0, (k - 1) / following) * (p - last)
            k = torch.where(wrong, 1, following)
            if looking:
                with torch.no_grad():
                    excess = self._gap(v, p, strength) - bound
                    if not bool((excess > 0).any()):
                        break
        else:
            if looking:
                logger.warning(
                    "TotalVariation2d stopped after max_iter=%d iterations: the duality gap is above that of tol=%.1e "
                    "by up to %.1e",
                    self.max_iter,
                    self.tol,
                    float(excess.max()),
                )
        return mean + (v - _adjoint(p))

    def _onto_dual_ball(self, p: Tensor, strength: float | Tensor) -> Tensor:
        """Return p with no length (or no entry) above the strength."""
        s = strength[..., None] if isinstance(strength, Tensor) and strength.ndim else strength
        size = torch.linalg.vector_norm(p, dim=-1, keepdim=True) if self.isotropic else p.abs()
        outside = size > s
        return p * torch.where(outside, s / torch.where(outside, size, 1), 1)

    def _gap(self, v: Tensor, p: Tensor, strength: float | Tensor) -> Tensor:
        """Return strength TV(x) - <p, D x>, the gap at x = v - D^T p; each pixel adds something >= 0."""
        d = _differences(v - _adjoint(p))
        length = torch.linalg.vector_norm(d, dim=-1) if self.isotropic else d.abs().sum(-1)
        return (strength * length - (p * d).sum(-1)).sum((-2, -1))


def _differences(x: Tensor) -> Tensor:
    """Return D x, (..., h, w, 2)."""
    down = torch.nn.functional.pad(x.diff(dim=-2), (0, 0, 0, 1))
    right = torch.nn.functional.pad(x.diff(dim=-1), (0, 1))
    return torch.stack([down, right], dim=-1)


def _adjoint(p: Tensor) -> Tensor:
    """Return D^T p."""
    down, right = p[..., :-1, :, 0], p[..., :, :-1, 1]
    return -(
        torch.nn.functional.pad(down, (0, 0, 1, 1)).diff(dim=-2) + torch.nn.functional.pad(right, (1, 1)).diff(dim=-1)
    )
