"""Elementary projectors and proximal operators."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from unroll._operator import Projector, ProximalOperator


class Box(Projector):
    """Projection onto {x : low <= x <= high}, entry by entry; real signals of any shape.

    ``low`` and ``high`` are numbers, or tensors that broadcast against the signal and move with the module. Cost: O(n).

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, chapter 6.
    """

    low: float | Tensor
    high: float | Tensor

    def __init__(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> None:
        super().__init__()
        if not bool(torch.as_tensor(low <= high).all()):
            raise ValueError(f"Box needs low <= high, got low = {low} and high = {high}")
        hold(self, low=low, high=high)

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return min(max(v, low), high)."""
        if v.is_complex():
            raise TypeError(f"Box takes real signals, this one is {v.dtype}: pass torch.view_as_real of it")
        low, high = like(self.low, v), like(self.high, v)
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            return v.clamp(min=low).clamp(max=high)
        return v.clamp(low, high)


class Subspace(Projector):
    """Projection onto the span of orthonormal columns U, P(v) = U (U^H v), along one dimension of the signal.

    Shapes: ``basis`` is (n, k); ``v`` has length n along ``dim`` (default: the last). U is used in the dtype of v,
    autocast has no effect. Cost: 2 n k multiplications per vector. Raises ValueError where U^H U is not the identity
    to 1e-4.

    Source: N. Parikh and S. Boyd, "Proximal algorithms", 2014, chapter 6.
    """

    linear = True
    basis: Tensor

    def __init__(self, basis: Tensor, *, dim: int = -1) -> None:
        super().__init__()
        if basis.ndim != 2:
            raise ValueError(f"the basis must be a matrix (n, k), got the shape {tuple(basis.shape)}")
        with without_autocast(basis):
            gram = basis.mH @ basis
        defect = float((gram - torch.eye(basis.shape[1], dtype=basis.dtype, device=basis.device)).abs().max())
        if not defect < 1e-4:
            raise ValueError(
                f"the basis must have orthonormal columns, |U^H U - I| reaches {defect:.1e}: "
                "take torch.linalg.qr(basis).Q"
            )
        self.register_buffer("basis", basis, persistent=False)
        self.dim = dim

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return U U^H v along ``dim``."""
        rows = v.movedim(self.dim, -1)
        if rows.shape[-1] != self.basis.shape[0]:
            raise ValueError(
                f"the basis spans vectors of length {self.basis.shape[0]}, the signal of shape {tuple(v.shape)} "
                f"has length {rows.shape[-1]} along dimension {self.dim}"
            )
        if self.basis.is_complex() and not v.is_complex():
            raise TypeError(
                f"the basis is complex, the signal {v.dtype}: convert the signal, its projection is complex"
            )
        basis = self.basis.to(v)
        with without_autocast(v):
            return (rows @ basis.conj() @ basis.mT).movedim(-1, self.dim)


class SoftThreshold(ProximalOperator):
    """prox of f(x) = threshold ||x||_1: v -> v max(1 - tau threshold / |v|, 0), entry by entry, real or complex.

    ``threshold`` >= 0 is a number, or a tensor (a Parameter, if it is to be learned) that broadcasts against v. Any
    shape. Cost: O(n).

    Source: D. Donoho, "De-noising by soft-thresholding", 1995; for complex entries as for the groups of
    :class:`unroll.penalties.GroupL1`.
    """

    threshold: float | Tensor

    def __init__(self, threshold: float | Tensor) -> None:
        super().__init__()
        hold(self, threshold=at_least_zero("the threshold", threshold))

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return the soft-thresholded signal; the phase of complex entries is kept."""
        return shrunk(v, tau * like(self.threshold, v.real if v.is_complex() else v))


def shrunk(v: Tensor, theta: float | Tensor) -> Tensor:
    """Return sign(v) max(|v| - theta, 0), entry by entry; the sign of complex entries is their phase."""
    return torch.sgn(v) * torch.relu(v.abs() - theta)


def like(bound: float | Tensor, v: Tensor) -> float | Tensor:
    """Return a bound in the dtype and on the device of v; a number serves everywhere and is copied nowhere."""
    return bound.to(v) if isinstance(bound, Tensor) else bound


def hold(module: nn.Module, **values: float | Tensor) -> None:
    """Set numbers and Parameters as attributes, and other tensors as buffers that the state_dict leaves out."""
    for name, value in values.items():
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            module.register_buffer(name, value, persistent=False)
        else:
            setattr(module, name, value)


def at_least_zero(what: str, value: float | Tensor) -> float | Tensor:
    """Return a number or tensor that must not be negative; a Parameter may be, while it is learned."""
    if not isinstance(value, nn.Parameter) and not bool(torch.as_tensor(value >= 0).all()):
        raise ValueError(f"{what} must be at least 0, got {value}")
    return value


def without_autocast(v: Tensor) -> AbstractContextManager[object]:
    """Keep the dtype of products: in half precision a projection is not idempotent, and lowers that of the iterates."""
    device = v.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
