"""What one call iterates: the parts bound together, and what looks at them on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unroll._operator import Operator
from unroll._scheme import Scheme, Step, rows
from unroll._status import Status, Tolerance
from unroll._update import LearnedUpdate

Probe = Callable[[Tensor, int], Any]


class Iteration:
    """One call of a solver, for an :class:`Adjoint` to run: the state that step t makes, and what is to be seen of it.

    An adjoint starts with ``begin(state)``, calls ``visit(state, t)`` for t = 0..N, in order, and ``done(before, after,
    t)`` for t = 1..N; it stops where that is true.
    """

    def __init__(
        self,
        scheme: Scheme,
        update: LearnedUpdate,
        projector: Operator | None,
        data: Any,
        *,
        probe: Probe | None = None,
        until: Tolerance | None = None,
        check_finite: bool = False,
    ) -> None:
        self.scheme = scheme
        self.update = update
        self.projector = projector
        self.data = data
        self.probe = probe
        self.until = until
        self.check_finite = check_finite
        self.status: Status | None = None
        self.trace: list[Any] = []
        self._grad_mode = torch.is_grad_enabled()

    def at(self, t: int) -> Step:
        """Return the halves of step t."""
        return Step(self.update, self.projector, self.data, t)

    def iterate(self, state: Any) -> Tensor:
        """Return the x of a state."""
        return self.scheme.iterate(state)

    def step(self, state: Any, t: int) -> Any:
        """Return the state after step t."""
        return self.scheme.step(state, Step(self.update, self.projector, self.data, t))

    @property
    def watched(self) -> bool:
        """Whether ``done`` looks at the states at all: whether their number may be less than was asked for."""
        return self.until is not None or self.check_finite

    def visit(self, state: Any, t: int) -> None:
        """Show the iterate to the probe, under the gradient mode of the call."""
        if self.probe is not None:
            with torch.set_grad_enabled(self._grad_mode):
                self.trace.append(self.probe(self.iterate(state), t))

    def begin(self, state: Any) -> None:
        """Look at the start."""
        if self.watched:
            with torch.no_grad():
                self._look(state, 0)

    @torch.no_grad()
    def _look(self, state: Any, t: int) -> Tensor:
        values = rows(self.scheme.reached(state))
        finite = values.isfinite().all(1)
        if self.check_finite and not bool(finite.all()):
            sample = int((~finite).nonzero()[0])
            raise ValueError(
                f"the iterate of sample {sample} is not finite "
                + (f"after step {t}: are the steps too long?" if t else "before the first step: look at x0")
            )
        if self.until is not None and self.status is None:
            none = torch.full_like(values[:, 0], torch.inf)
            failed = torch.where(finite, -1, t)
            self.status = Status(t, torch.zeros_like(finite), none, failed)
        return finite

    def done(self, before: Any, after: Any, t: int) -> bool:
        """Return whether step t was the last, all samples having converged or ceased to be finite."""
        if not self.watched:
            return False
        finite = self._look(after, t)
        if self.until is None or self.status is None:
            return False
        with torch.no_grad():
            residual, excess = self.until.excess(rows(self.scheme.start(before)), rows(self.scheme.reached(after)))
            failed = torch.where((self.status.failed_at < 0) & ~finite, t, self.status.failed_at)
            self.status = Status(t, (excess <= 0) & (failed < 0), residual, failed)
            return bool((self.status.converged | (failed >= 0)).all())
