"""What the projectors of this package have in common: shapes, dtypes, and searches that are not differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unroll._operator import Projector
from unroll._proximal import at_least_zero, hold, without_autocast


class SetProjector(Projector):
    """A projector onto a set of vectors or matrices, which are the last dimensions of the signal; the others are batch.

    A subclass defines ``project(v)``. Half precision is computed in float32, autocast has no effect; the result has the
    dtype and the device of v.

    Attributes:
        point_dims: how many of the last dimensions one point of the set takes, 1 or 2.
        takes_complex: whether complex signals are taken.
    """

    point_dims: int = 1
    takes_complex: bool = False

    def forward(self, v: Tensor, tau: float | Tensor = 1.0, *, t: int | None = None) -> Tensor:
        """Return P_C(v); tau and t are idle."""
        with without_autocast(v):
            return self.project(working(self, v, self.point_dims, self.takes_complex)).to(v.dtype)

    def project(self, v: Tensor) -> Tensor:
        """Return the projection of a signal in single or double precision."""
        raise NotImplementedError(f"{type(self).__name__} must define project(v)")


class NonConvexProjector(SetProjector):
    """P_C(v), a point of argmin_{x in C} ||x - v||^2, for a closed set C that is not convex.

    Where several points are nearest it returns one of them. It is idempotent, but neither firmly non-expansive nor
    continuous everywhere, so that iterations with it may depend on where they start.
    """

    convex = False


class WithRadius(SetProjector):
    """What balls and spheres have in common: a ``radius`` >= 0, a number or a tensor; real or complex signals."""

    takes_complex = True
    radius: float | Tensor

    def __init__(self, radius: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(self, radius=at_least_zero("the radius", radius))


def working(module: torch.nn.Module, v: Tensor, dims: int, takes_complex: bool) -> Tensor:
    """Return v in the dtype to compute in, or raise where it is not a signal of that kind."""
    name = type(module).__name__
    if v.is_complex() and not takes_complex:
        raise TypeError(f"{name} takes real signals, this one is {v.dtype}: pass torch.view_as_real of it")
    if not (v.is_complex() or v.is_floating_point()):
        raise TypeError(f"{name} takes floating-point signals, this one is {v.dtype}: convert it with v.float()")
    if v.ndim < dims or not all(v.shape[v.ndim - dims :]):
        raise ValueError(
            f"{name} acts on the last {'dimension' if dims == 1 else f'{dims} dimensions'} of a signal, and one of the "
            f"shape {tuple(v.shape)} has nothing there"
        )
    return v.float() if v.dtype in (torch.half, torch.bfloat16) else v


def check_length(module: torch.nn.Module, v: Tensor, expected: tuple[int, ...]) -> None:
    """Raise unless the last dimensions of a signal are those expected."""
    if v.shape[v.ndim - len(expected) :] != expected:
        raise ValueError(
            f"{type(module).__name__} was made for signals whose last dimensions are {expected}, "
            f"this one has the shape {tuple(v.shape)}"
        )


class Search(torch.autograd.Function):
    """A search that looks at values (which constraints are active, say): no gradient, and batched under vmap.

    ``Search.apply(search, *tensors)`` is ``search(*tensors)``, which returns one tensor and must take any leading
    dimensions that broadcast. What it finds is a constant almost everywhere; a closed form of the arguments, written
    with torch operations, makes a differentiable result of it.
    """

    @staticmethod
    def forward(search: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Return search(*tensors)."""
        return search(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Say that the result is a constant."""
        ctx.mark_non_differentiable(output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Return no gradient."""
        return (None,) * len(ctx.needs_input_grad)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], search: Callable[..., Tensor], *tensors: Tensor) -> Any:
        """Make of the dimension that is mapped over one more leading dimension."""
        dims = in_dims[1:]
        rank = max(t.ndim - (dim is not None) for t, dim in zip(tensors, dims, strict=True))
        moved = []
        for tensor, dim in zip(tensors, dims, strict=True):
            if dim is not None:
                tensor = tensor.movedim(dim, 0)
                tensor = tensor.reshape(tensor.shape[:1] + (1,) * (rank + 1 - tensor.ndim) + tensor.shape[1:])
            moved.append(tensor)
        return Search.apply(search, *moved), 0


def norm(v: Tensor) -> Tensor:
    """Return the Euclidean norms along the last dimension, which stays; the gradient at 0 is 0."""
    size: Tensor = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return size


def unit(v: Tensor, length: Tensor) -> Tensor:
    """Return v / length, and 0 where the length is 0."""
    return v / torch.where(length > 0, length, 1)


def shortened(v: Tensor, size: Tensor, radius: float | Tensor) -> Tensor:
    """Return v min(1, radius / size); what is inside stays as it is, bit by bit."""
    outside = size > radius
    return v * torch.where(outside, radius / torch.where(outside, size, 1), 1)


def direction(v: Tensor) -> Tensor:
    """Return the sign or phase of every entry, that of 0 being 1."""
    return torch.where(v == 0, 1, torch.sgn(v))
