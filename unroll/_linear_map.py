"""Linear maps of other libraries, differentiable by torch, and the data fidelity made of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unroll._loss import Loss

Map = Callable[[Tensor], Tensor]


class LinearMap(nn.Module):
    """A linear map A and its adjoint A^H, from whatever another library gives; torch differentiates it by A^H.

    It may be used as a function, in a :class:`Loss`, an update or a scheme such as :class:`ChambollePock`, and be
    differentiated any number of times, forwards, backwards and under ``torch.func.vmap``.

    >>> import scipy.sparse, torch, unroll
    >>> A = unroll.LinearMap(scipy.sparse.csr_array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
    >>> A(torch.tensor([[1.0, 1.0, 1.0]]))
    tensor([[3., 3.]])
    >>> A.adjoint(torch.tensor([[1.0, 1.0]]))
    tensor([[1., 3., 2.]])

    Args:
        operator: one of

            - a matrix of numpy or scipy.sparse, a scipy ``LinearOperator``, an operator of PyLops: anything with a
              ``shape`` (m, n), ``matvec`` and ``rmatvec``. Signals lie along the last dimension, (..., n) -> (..., m),
              the others are batch. It is applied on the CPU and in its own precision, wherever the signal is; the
              result has the dtype of the signal, made complex if the operator is complex, and its device.
            - an object with ``A`` and ``A_adjoint`` on tensors, such as a linear physics of deepinv. The first
              dimension of a signal is batch. Its dtype and device are its own affair.

        dot_test: of the first kind, whether <A x, y> = <x, A^H y> is tested at once on a random pair, at the cost of
            one product each. Of the second, call :meth:`dot_test` on a signal.

    Raises:
        TypeError: the operator is of neither kind, or has no adjoint.
        ValueError: it fails the dot test; a signal of another length than n.
    """

    def __init__(self, operator: Any, *, dot_test: bool = True) -> None:
        super().__init__()
        self.shape: tuple[int, int] | None = None
        self.dtype = torch.float64
        if callable(getattr(operator, "A", None)) and callable(getattr(operator, "A_adjoint", None)):
            self.operator = operator
        else:
            self.operator = _as_scipy(operator)
            self.shape = (int(self.operator.shape[0]), int(self.operator.shape[1]))
            self.dtype = _torch_dtype(self.operator)
            if dot_test:
                generator = torch.Generator().manual_seed(0)
                self.dot_test(torch.randn(1, self.shape[1], dtype=self.dtype, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Return A x."""
        return _Pair.apply(x, self._product, self._adjoint, self.shape is None)  # type: ignore[no-any-return]

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^H y."""
        return _Pair.apply(y, self._adjoint, self._product, self.shape is None)  # type: ignore[no-any-return]

    @torch.no_grad()
    def dot_test(self, x: Tensor) -> None:
        """Raise ValueError unless <A x, y> = <x, A^H y> for a random y, to half of the digits of x."""
        image = self(x)
        noise = torch.randn(image.shape, dtype=image.dtype, generator=torch.Generator().manual_seed(1))
        y = noise.to(image.device)
        back = self.adjoint(y)
        if back.shape != x.shape:
            raise ValueError(f"the adjoint of A leads to the shape {tuple(back.shape)}, A from {tuple(x.shape)}")
        left, right = (torch.vdot(y.flatten(), image.flatten()), torch.vdot(back.flatten(), x.to(back).flatten()))
        if not x.is_complex():  # A map of real signals is one of R^n to R^2m: its adjoint is so for the real part.
            left, right = left.real, right.real
        size = torch.linalg.vector_norm(image)
        if not float((left - right).abs()) <= torch.finfo(x.dtype).eps ** 0.5 * float(size):
            raise ValueError(
                f"A and its adjoint do not match: <A x, y> = {left.item():.6g} and <x, A^H y> = {right.item():.6g} "
                "for random x and y; mend rmatvec (A_adjoint), or pass dot_test=False if it is meant to be approximate"
            )

    def _product(self, x: Tensor) -> Tensor:
        if self.shape is None:
            return self.operator.A(x)  # type: ignore[no-any-return]
        return self._rows(x, self.shape[1], self.operator.matmat)

    def _adjoint(self, y: Tensor) -> Tensor:
        if self.shape is None:
            return self.operator.A_adjoint(y)  # type: ignore[no-any-return]
        try:
            return self._rows(y, self.shape[0], self.operator.rmatmat)
        except (NotImplementedError, TypeError) as error:
            raise TypeError("the operator has no adjoint, or none that runs: give it rmatvec, y -> A^H y") from error

    def _rows(self, x: Tensor, length: int, product: Callable[[Any], Any]) -> Tensor:
        if x.shape[-1:] != (length,):
            raise ValueError(
                f"A has the shape {self.shape} and takes signals of length {length} here, this one has the shape "
                f"{tuple(x.shape)}"
            )
        work = self.dtype.to_complex() if x.is_complex() else self.dtype
        columns = x.detach().to("cpu", work).reshape(-1, length).resolve_conj().resolve_neg().numpy().T
        image = torch.from_numpy(product(columns).T.copy())
        dtype = x.dtype.to_complex() if image.is_complex() else x.dtype
        return image.reshape(*x.shape[:-1], image.shape[-1]).to(x.device, dtype)


class LeastSquares(Loss):
    """f(x, y) = 1/2 ||A x - y||^2 for each sample: the data fidelity of y = A x + noise, of any shape.

    ``a`` is a matrix (m, n) for signals (B, n), a :class:`LinearMap` or another module, or a function of x. A tensor
    moves with the module and stays out of its state dict. grad f = A^H (A x - y); it is Lipschitz with ||A||^2, below
    two over which a step size must stay.

    >>> import torch, unroll
    >>> f = unroll.LeastSquares(torch.tensor([[3.0, 4.0]]))
    >>> f(torch.ones(1, 2), torch.tensor([[5.0]]))
    tensor([2.])

    Raises ValueError where A x and y differ in shape.
    """

    def __init__(self, a: Tensor | Map) -> None:
        super().__init__()
        if isinstance(a, Tensor) and not isinstance(a, nn.Parameter):
            self.register_buffer("a", a, persistent=False)
        else:
            self.a = a

    def forward(self, x: Tensor, data: Tensor) -> Tensor:
        """Return 1/2 ||A x - y||^2, (B,); data is y."""
        if isinstance(self.a, Tensor):
            if x.shape[-1] != self.a.shape[-1]:
                raise ValueError(f"A has the shape {tuple(self.a.shape)} and cannot take x of {tuple(x.shape)}")
            image = x @ self.a.mT
        else:
            image = self.a(x)
        if image.shape != data.shape:
            raise ValueError(
                f"A x has the shape {tuple(image.shape)} and the data {tuple(data.shape)}: they must agree"
            )
        return 0.5 * (image - data).abs().square().flatten(1).sum(1)


def _as_scipy(operator: Any) -> Any:
    from scipy.sparse.linalg import aslinearoperator

    try:
        return aslinearoperator(operator)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{type(operator).__name__} is no linear map: pass a matrix, something with shape, matvec and rmatvec, or "
            "with A and A_adjoint"
        ) from error


def _torch_dtype(operator: Any) -> torch.dtype:
    """Return float32 or float64, or the complex of either, as the operator has it; float64 for integers."""
    dtype = torch.from_numpy(operator.dtype.type(0).reshape(1)).dtype
    return dtype if dtype.is_floating_point or dtype.is_complex else torch.float64


class _Pair(torch.autograd.Function):
    """x -> A x, of the derivatives A and A^H."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, product: Map, adjoint: Map, folds: bool) -> Tensor:
        return product(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Map, Map, bool], output: Tensor) -> None:
        x, ctx.product, ctx.adjoint, ctx.folds = inputs
        ctx.real = not x.is_complex()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        back: Tensor = _Pair.apply(grad, ctx.adjoint, ctx.product, ctx.folds)
        return back.real if ctx.real and back.is_complex() else back, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _Pair.apply(tangent, ctx.product, ctx.adjoint, ctx.folds)  # type: ignore[no-any-return]

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int | None, ...], x: Tensor, product: Map, adjoint: Map, folds: bool
    ) -> tuple[Tensor, int]:
        # Rows may have any number of batch dimensions in front, other signals have just one.
        assert dims[0] is not None
        x = x.movedim(dims[0], 0)
        if not folds:
            return _Pair.apply(x, product, adjoint, folds), 0
        image: Tensor = _Pair.apply(x.flatten(0, 1), product, adjoint, folds)
        return image.reshape(*x.shape[:2], *image.shape[1:]), 0
