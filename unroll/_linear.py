"""Krylov methods for A x = b, A given by its products: what implicit differentiation solves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
LinearSolver = Callable[[Product, Tensor, float, int], Tensor]


def gmres(product: Product, b: Tensor, tol: float, max_iter: int, *, restart: int = 20) -> Tensor:
    """Solve A x = b for any invertible A, from x = 0, restarted after ``restart`` products.

    Args:
        product: v -> A v, for real vectors (n,).
        b: (n,), real.
        tol: stops at ||b - A x|| <= tol ||b||.
        max_iter: how many products are taken at most; the x they have led to is returned, converged or not.
        restart: memory is as many vectors.

    Source: Y. Saad and M. Schultz, "GMRES", 1986; orthogonalised by Gram-Schmidt done twice.
    """
    x, residual = torch.zeros_like(b), b
    bound, left = tol * float(b.norm()), max_iter
    while left > 0 and (size := float(residual.norm())) > bound:
        width = min(restart, left, b.numel())
        basis = b.new_zeros(width + 1, b.numel())
        hessenberg = b.new_zeros(width + 1, width, dtype=torch.float64, device="cpu")
        target = hessenberg.new_zeros(width + 1)
        target[0] = size
        basis[0] = residual / size
        weights = hessenberg.new_zeros(0)
        for k in range(width):
            v, left = product(basis[k]), left - 1
            for _ in range(2):
                overlap = basis[: k + 1] @ v
                v = v - overlap @ basis[: k + 1]
                hessenberg[: k + 1, k] += overlap.to(hessenberg)
            hessenberg[k + 1, k] = length = float(v.norm())
            small = hessenberg[: k + 2, : k + 1]
            weights = torch.linalg.lstsq(small, target[: k + 2, None]).solution[:, 0]
            if float((target[: k + 2] - small @ weights).norm()) <= bound or length <= 1e-14 * size:
                break
            basis[k + 1] = v / length
        x = x + weights.to(b) @ basis[: len(weights)]
        residual, left = b - product(x), left - 1
    return x


def conjugate_gradient(product: Product, b: Tensor, tol: float, max_iter: int) -> Tensor:
    """Solve A x = b for A symmetric and positive definite, from x = 0, with three vectors of memory.

    The arguments are those of :func:`gmres`. I - J^T of a step is symmetric for gradient descent without a projector,
    and hardly ever with one.

    Source: M. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.
    """
    x, residual, direction = torch.zeros_like(b), b, b
    square = float(b.square().sum())
    bound = tol * tol * square
    for _ in range(max_iter):
        if square <= bound:
            break
        image = product(direction)
        curvature = float(direction @ image)
        if not curvature > 0:
            break  # A is not positive definite; what remains of the residual says so.
        alpha = square / curvature
        x, residual = x + alpha * direction, residual - alpha * image
        last, square = square, float(residual.square().sum())
        direction = residual + square / last * direction
    return x
