"""Signals on n nodes as stacks of planes (m, n), and linear self-adjoint maps of such stacks under autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


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


class SelfAdjoint(torch.autograd.Function):
    """planes -> action(planes) for a linear self-adjoint action on each plane, its own derivative of every order."""

    @staticmethod
    def forward(planes: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
        """Return action(planes)."""
        return action(planes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Callable[[Tensor], Tensor]], output: Tensor) -> None:
        """Keep the action; a linear map needs nothing else."""
        ctx.action = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return action(gradient)."""
        return self_adjoint(grads[0].contiguous(), ctx.action), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """Return action(tangent)."""
        return self_adjoint(tangents[0].contiguous(), ctx.action)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], planes: Tensor, action: Any) -> tuple[Tensor, int | None]:
        """Stack the batch on the planes."""
        if in_dims[0] is None:
            return self_adjoint(planes, action), None
        stack = planes.movedim(in_dims[0], 0)
        return self_adjoint(stack.flatten(0, 1).contiguous(), action).reshape(stack.shape), 0


def self_adjoint(planes: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
    """Return action(planes), differentiable; see SelfAdjoint. Autocast has no effect on it."""
    device = planes.device.type
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        result: Tensor = SelfAdjoint.apply(planes, action)
    return result
