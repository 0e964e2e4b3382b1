"""Where an operator works: in another colour space, or with other parameters for each channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from unroll import Operator
from unroll._proximal import without_autocast


class ColourSpace(NamedTuple):
    """A change of colours T, pixel by pixel: ``there`` maps images to the space, ``back`` undoes it.

    Both map signals (n, c), (B, C, H, W) or (B, C, D, H, W) of any real value to such. ``orthonormal`` says that T is
    an orthonormal matrix, which keeps the laws of operators. :data:`LINEAR_LIGHT` and :data:`OPPONENT` are ready-made.
    """

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    orthonormal: bool = False

    @classmethod
    def rotation(cls, matrix: Tensor) -> Self:
        """Return the space of the colours M c, M (C, C) orthonormal; ValueError where M M^T is not 1 to 1e-6."""
        kept = matrix.detach().clone().double()
        if kept.ndim != 2 or kept.shape[0] != kept.shape[1]:
            raise ValueError(f"the matrix of a colour space must be square, got the shape {tuple(kept.shape)}")
        defect = float((kept @ kept.T - torch.eye(len(kept), dtype=kept.dtype, device=kept.device)).abs().max())
        if not defect <= 1e-6:
            raise ValueError(f"the matrix must be orthonormal, |M M^T - 1| reaches {defect:.1e}: take its QR factor")
        return cls(partial(_mix, kept), partial(_mix, kept.T), orthonormal=True)


class InColourSpace(Operator):
    """v -> T^-1 P(T v): an operator P applied in a colour space T.

    Where T is orthonormal it is the projection onto T^-1 C of a set C, the prox of f(T x) of a function f, and keeps
    every law of P. Where it is not, as for linear light, only idempotence survives: T^-1 C is then no convex set, and
    the result not its nearest point.

    An operator that treats all channels alike, as those of a Laplacian do, commutes with every matrix T: give each
    channel its own by :class:`PerChannel`, or nothing changes. The difference from a guide g is taken in the space by
    ``InColourSpace(Around(P, space.there(g)), space)``.

    Args:
        operator: P, on signals in the space.
        space: a :class:`ColourSpace`.

    Signals as ``space`` takes them; tau and t go to P.
    """

    def __init__(self, operator: Operator, space: ColourSpace) -> None:
        super().__init__()
        self.operator, self.space = operator, space
        self.idempotent = operator.idempotent  # type: ignore[misc]  # laws of this instance
        self.convex = operator.convex and space.orthonormal  # type: ignore[misc]
        self.linear = operator.linear and space.orthonormal  # type: ignore[misc]

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return T^-1 P(T v)."""
        with without_autocast(v):
            return self.space.back(self.operator(self.space.there(v), tau, t=t))


class PerChannel(Operator):
    """v -> (P_1(v_1), ..., P_C(v_C)): an operator for each channel, of another k or gamma, say.

    For signals (n, C), (B, C, H, W) and (B, C, D, H, W); each P_c sees one channel of them, (n, 1) or (B, 1, ...). It
    is the prox of sum_c f_c(v_c), and keeps the laws that all of its operators keep. tau and t go to each. Raises
    ValueError for signals of other shapes, or of another number of channels.
    """

    def __init__(self, operators: Iterable[Operator]) -> None:
        super().__init__()
        self.operators = nn.ModuleList(operators)
        if not len(self.operators):
            raise ValueError("PerChannel needs an operator for each channel, got none")
        self.convex = all(p.convex for p in self.operators)  # type: ignore[misc]  # laws of this instance
        self.idempotent = all(p.idempotent for p in self.operators)  # type: ignore[misc]
        self.linear = all(p.linear for p in self.operators)  # type: ignore[misc]

    def forward(self, v: Tensor, tau: float = 1.0, *, t: int | None = None) -> Tensor:
        """Return the channels, each by its operator."""
        _check_channels(v, len(self.operators), "PerChannel")
        parts = zip(self.operators, torch.split(v, 1, dim=1), strict=True)
        return torch.cat([p(part, tau, t=t) for p, part in parts], dim=1)


def _check_channels(v: Tensor, count: int, what: str) -> None:
    if v.ndim not in (2, 4, 5) or v.shape[1] != count:
        raise ValueError(
            f"{what} takes signals (n, {count}), (B, {count}, H, W) or (B, {count}, D, H, W), got {tuple(v.shape)}"
        )


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    _check_channels(x, len(matrix), "the colour space")
    with without_autocast(x):
        return (x.movedim(1, -1) @ matrix.to(x).T).movedim(-1, 1)


def _to_linear(x: Tensor) -> Tensor:
    size = x.abs()
    return torch.where(size <= 0.04045, x / 12.92, x.sign() * ((size + 0.055) / 1.055) ** 2.4)


def _to_srgb(x: Tensor) -> Tensor:
    size = x.abs()
    # The branch that is not taken must have a finite derivative, too.
    curve = 1.055 * size.clamp_min(1e-3) ** (1 / 2.4) - 0.055
    return torch.where(size <= 0.0031308, 12.92 * x, x.sign() * curve)


LINEAR_LIGHT = ColourSpace(_to_linear, _to_srgb)
"""sRGB values to intensities of light and back (IEC 61966-2-1), extended to all reals as odd functions."""

OPPONENT = ColourSpace.rotation(
    torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]], dtype=torch.float64)
    / torch.tensor([[math.sqrt(3)], [math.sqrt(2)], [math.sqrt(6)]], dtype=torch.float64)
)
"""RGB to lightness, red-green and yellow-blue, orthonormal: R + G + B, R - G and R + G - 2 B, each over its norm.

Source: J. van de Weijer, T. Gevers, A. Bagdanov, "Boosting color saliency in image feature detection", PAMI 2006.
"""
