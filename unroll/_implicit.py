"""Differentiation of a fixed point, without the iterations that led there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unroll._adjoint import Adjoint, run, run_untracked
from unroll._iteration import Iteration
from unroll._linear import LinearSolver, gmres
from unroll._scheme import State, rows, unrows
from unroll._status import Tolerance
from unroll._update import other_leaves


@dataclass(frozen=True)
class JacobianFree(Adjoint):
    """Backpropagation through one step at the fixed point: the memory and the time of that step.

    An approximation: the inverse of I - J^T in :class:`Implicit` is replaced by I. Where T is a contraction the result
    is still a direction of descent under conditions that the source gives; its length is not that of the gradient.

    The update must be tied, and the iterations must have converged: within the tolerance of the call or, if that has
    none, within ``Tolerance()``. The gradient with respect to x0 is 0, and there is no path to it.

    Raises:
        ValueError: the update is untied, or a sample has not converged.

    Source: S. Fung et al., "JFB: Jacobian-free backpropagation for implicit networks", 2022.
    """

    def __call__(self, iteration: Iteration, state: Any, steps: int) -> Tensor:
        """Run to the fixed point without a graph, and take the last step with one."""
        if not iteration.update.tied:
            raise ValueError(
                f"{type(self).__name__} differentiates a fixed point, and {type(iteration.update).__name__} is untied "
                "over t: tie the update, or differentiate by Backprop or Checkpointed"
            )
        if not torch.is_grad_enabled():
            return iteration.iterate(run(iteration, state, steps))
        if not steps:
            raise ValueError(f"{type(self).__name__} differentiates the last step, and there is none: ask for steps")
        state, (t,) = run_untracked(iteration, state, steps, 1)
        scheme = iteration.scheme.plain
        start = tuple(part.detach().requires_grad_() for part in iteration.scheme.start(state))
        reached = scheme.step(start, iteration.at(t))
        self._check(iteration, start, reached, t + 1)
        if not any(part.requires_grad and other_leaves(part, *start) for part in reached):
            reached = tuple(part.detach() for part in reached)
        else:
            reached = self._attach(start, reached)
        x = scheme.iterate(reached)
        if iteration.probe is not None:
            iteration.trace.append(iteration.probe(x, t + 1))
        return x

    def _attach(self, start: State, reached: State) -> State:
        return reached

    def _check(self, iteration: Iteration, start: State, reached: State, steps: int) -> None:
        until = iteration.until or Tolerance()
        with torch.no_grad():
            residual, excess = until.excess(rows(start), rows(reached))
            # Written so that NaN is caught as well.
            late = ~(excess <= 0)
            if bool(late.any()):
                sample = int(late.nonzero()[0])
                raise ValueError(
                    f"{type(self).__name__} differentiates a fixed point, and sample {sample} still moves by "
                    f"{float(residual[sample]):.1e} in step {steps}, more than {until} allows: ask for more steps, "
                    "loosen until=, or differentiate by Backprop or Truncated"
                )


@dataclass(frozen=True)
class Implicit(JacobianFree):
    """The gradient of the fixed point z = T(z, theta) by the implicit function theorem, at the memory of one step.

    For the gradient v with respect to z, it solves (I - J^T) w = v, J = dT/dz, by vector-Jacobian products of one step,
    through the projector as well, and returns (dT/dtheta)^T w. So it is exact up to how nearly the iterations have
    converged and ``tol``, whatever their number and whatever acceleration led there. It needs I - J invertible: an
    isolated fixed point. The batch is one system, for samples that meet as for those that do not.

    The update must be tied, and the iterations must have converged: within the tolerance of the call or, if that has
    none, within ``Tolerance()``. The gradient with respect to x0 is 0, and there is no path to it. It can be
    differentiated once.

    Args:
        solver: ``solver(product, b, tol, max_iter)``: :func:`gmres`, or :func:`conjugate_gradient` where I - J is
            symmetric and positive definite.
        tol: the relative residual of that system.
        max_iter: how many products the solver may take.

    Raises:
        ValueError: the update is untied, or a sample has not converged.
        RuntimeError: in the backward pass, the solver has not reached 10 ``tol``.

    Source: S. Bai, J. Kolter, V. Koltun, "Deep equilibrium models", 2019.
    """

    solver: LinearSolver = gmres
    tol: float = 1e-6
    max_iter: int = 200

    def _attach(self, start: State, reached: State) -> State:
        rough = [part for part in reached if part.requires_grad]

        def transposed(w: State) -> State:
            """Return J^T w."""
            weights = [part for part, image in zip(w, reached, strict=True) if image.requires_grad]
            grads = torch.autograd.grad(rough, start, weights, retain_graph=True, allow_unused=True)
            return tuple(
                torch.zeros_like(part) if grad is None else grad for grad, part in zip(grads, start, strict=True)
            )

        def solve(v: State) -> State:
            like = rows(v)
            b = like.flatten()

            def product(w: Tensor) -> Tensor:
                return w - rows(transposed(unrows(w.view_as(like), v))).flatten()

            w = self.solver(product, b, self.tol, self.max_iter)
            residual, size = float((b - product(w)).norm()), float(b.norm())
            if not residual <= 10 * self.tol * size:
                raise RuntimeError(
                    f"the linear system of Implicit was solved to {residual / size:.1e} only, not to tol = "
                    f"{self.tol:.1e}, in max_iter = {self.max_iter} products: allow more of either, take gmres if "
                    "I - J is not symmetric, or differentiate by Backprop"
                )
            return unrows(w.view_as(like), v)

        return _Solve.apply(solve, *reached)  # type: ignore[no-any-return]


class _Solve(torch.autograd.Function):
    """The identity, with v -> (I - J^T)^-1 v for its derivative."""

    @staticmethod
    def forward(ctx: Any, solve: Callable[[State], State], *z: Tensor) -> State:
        ctx.solve = solve
        return tuple(part.clone() for part in z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return (None, *ctx.solve(grads))
