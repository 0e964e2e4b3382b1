"""Functions of the singular values of a matrix, with derivatives that stay finite where values are equal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Recompose(torch.autograd.Function):
    """X = U diag(phi) V^H of A = U diag(s) V^H, phi_i = phi(s_i), differentiable in A and in phi.

    ``Recompose.apply(A, U, s, V^H, phi, slope)``: the decomposition is given, of any sign of s, phi must be odd as a
    function of s, and phi and slope = phi'(s) come from a function with a straight piece where slopes are equal. The
    derivative takes divided differences of phi (Daleckii and Krein), where autograd through the decomposition divides
    by s_i - s_j. It is self-adjoint, so the backward pass is the derivative itself:

        M = U^H dA V,   dX = U [ D ∘ (M + M^H) / 2 + E ∘ (M - M^H) / 2 ] V^H + (what U or V leaves out of dA),
        D_ij = (phi_i - phi_j) / (s_i - s_j),   E_ij = (phi_i + phi_j) / (s_i + s_j).

    Source: C. Deledalle et al., "Risk estimation for matrix recovery with spectral regularization", 2012.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, u: Tensor, s: Tensor, vh: Tensor, phi: Tensor, slope: Tensor) -> Tensor:
        """Return U diag(phi) V^H."""
        return (u * phi[..., None, :].to(u.dtype)) @ vh

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep the decomposition."""
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradients with respect to A and phi."""
        u, s, vh, phi, slope = ctx.saved_tensors
        m = u.mH @ gradient @ vh.mH
        both = slope[..., :, None] + slope[..., None, :]
        alike = slope[..., :, None] == slope[..., None, :]
        difference = _ratio(phi[..., :, None] - phi[..., None, :], s[..., :, None] - s[..., None, :], both / 2)
        difference = torch.where(alike, both / 2, difference)
        total = _ratio(phi[..., :, None] + phi[..., None, :], s[..., :, None] + s[..., None, :], both / 2)
        inner = difference * (m + m.mH) / 2 + total * (m - m.mH) / 2
        scale = _ratio(phi, s, slope).to(u.dtype)
        left, right = gradient @ vh.mH - u @ m, u.mH @ gradient - m @ vh
        result = u @ inner @ vh + (left * scale[..., None, :]) @ vh + (u * scale[..., None, :]) @ right
        return result, None, None, None, m.diagonal(dim1=-2, dim2=-1).real, None


def _ratio(numerator: Tensor, denominator: Tensor, otherwise: Tensor) -> Tensor:
    """Return a quotient, and something else where it would be 0 / 0 or infinite."""
    usable = denominator.abs() > torch.finfo(denominator.dtype).tiny
    return torch.where(usable, numerator / torch.where(usable, denominator, 1), otherwise)
