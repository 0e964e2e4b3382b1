"""Signals on n nodes as stacks of planes (m, n), and linear self-adjoint maps of such stacks under autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unroll._proximal import without_autocast


def to_planes(v: Tensor, n: int, spatial_shape: tuple[int, ...] | None = None) -> Tensor:
    """Return a signal (n,), (n, c), (B, C, H, W) or (B, C, D, H, W) as contiguous planes (m, n), in float32 at least.

    Images and videos need n pixels, and the spatial shape where it is given. Raises ValueError or TypeError otherwise.
    """
    if not v.is_floating_point():
        raise TypeError(f"a signal must be a real floating-point tensor, got {v.dtype}: convert it with .float()")
    shape = tuple(v.shape)
    if v.ndim in (4, 5):
        pixels = shape[2:]
        if spatial_shape is not None and pixels != spatial_shape:
            raise ValueError(
                f"the graph is that of a grid of {_times(spatial_shape)} pixels, "
                f"the signal {shape} has {_times(pixels)}"
            )
        if math.prod(pixels) != n:
            raise ValueError(
                f"the graph has {n} nodes, the signal {shape} has {_times(pixels)} = {math.prod(pixels)} pixels"
            )
        planes = v.reshape(shape[0] * shape[1], n)
    elif v.ndim in (1, 2):
        if shape[0] != n:
            raise ValueError(f"the graph has {n} nodes, the signal {shape} has {shape[0]} rows")
        planes = v[None] if v.ndim == 1 else v.T
    else:
        raise ValueError(f"a signal is (n,), (n, c), (B, C, H, W) or (B, C, D, H, W), got the shape {shape}")
    return planes.to(torch.float64 if v.dtype == torch.float64 else torch.float32).contiguous()


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def from_planes(planes: Tensor, like: Tensor) -> Tensor:
    """Return planes (m, n) in the shape and dtype of the signal they came from."""
    return (planes.T.contiguous() if like.ndim == 2 else planes).reshape(like.shape).to(like.dtype)


class Linear(torch.autograd.Function):
    """A linear map of stacks of planes (..., m, n), plane by plane, and its adjoint for the way back."""

    @staticmethod
    def forward(x: Tensor, action: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        """Return action(x)."""
        with torch.no_grad():
            return action(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the maps; a linear one needs nothing else."""
        _, ctx.action, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Return adjoint(gradient)."""
        return linear(grads[0].contiguous(), ctx.adjoint, ctx.action), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """Return action(tangent)."""
        return linear(tangents[0].contiguous(), ctx.action, ctx.adjoint)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, action: Any, adjoint: Any) -> tuple[Tensor, int | None]:
        """Stack the batch on the planes."""
        if in_dims[0] is None:
            return linear(x, action, adjoint), None
        x = x.movedim(in_dims[0], -3)
        result = linear(x.flatten(-3, -2).contiguous(), action, adjoint)
        result = result.reshape(*result.shape[:-2], *x.shape[-3:])
        return result, result.ndim - 3


def linear(x: Tensor, action: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> Tensor:
    """Return action(x), differentiable any number of times by the adjoint. Autocast has no effect on it."""
    with without_autocast(x):
        result: Tensor = Linear.apply(x, action, adjoint)
    return result


def self_adjoint(planes: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
    """Return action(planes) for an action that is its own adjoint, and so its own derivative of every order."""
    return linear(planes, action, action)
