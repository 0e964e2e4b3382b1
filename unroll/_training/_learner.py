"""One step of training, and all that it changes."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from unroll._adjoint import Adjoint, Truncated
from unroll._operator import Operator
from unroll._solver import Unrolled
from unroll._training._average import moving_average
from unroll._training._distributed import Processes
from unroll._training._loss import LossFunction, Solve
from unroll._training._progress import Progress
from unroll._training._schedule import StageWise

log = logging.getLogger(__name__)

_HOPELESS = 100  # steps in a row without a finite gradient


class Parts(nn.Module):
    """What is trained, as one module."""

    def __init__(self, solver: Unrolled, projector: Operator | None) -> None:
        super().__init__()
        self.solver = solver
        self.projector = projector


class Objective(nn.Module):
    """The loss as the forward pass of one module, which is what DistributedDataParallel can go around."""

    def __init__(self, parts: Parts, loss: LossFunction, precision: torch.dtype | None) -> None:
        super().__init__()
        self.parts = parts
        self.device = next((p.device for p in parts.parameters()), torch.device("cpu"))
        self.precision = precision
        self._loss = (loss,)  # in a tuple: the parameters of a loss are not trained

    def forward(self, batch: Any, steps: int, adjoint: Adjoint | None) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the mean loss of a batch and what there is to be logged."""
        solve = Solve(self.parts.solver, self.parts.projector, steps, adjoint)
        with torch.autocast(self.device.type, self.precision or torch.bfloat16, enabled=self.precision is not None):
            found = self._loss[0](solve, batch)
        value, numbers = found if isinstance(found, tuple) else (found, {})
        value = value.mean()
        logged: Mapping[str, Tensor | float] = {"loss": value, **numbers}
        return value, {k: v.detach() if isinstance(v, Tensor) else v for k, v in logged.items()}


class Learner:
    """The parts with their optimiser, rate, scaler and average; the arguments are those of :func:`unroll.fit`."""

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer | Callable[..., Optimizer],
        *,
        lr: float | None,
        schedule: Callable[[Progress], float] | LRScheduler | None,
        clip: float | None,
        adjoint: Adjoint | None,
        stages: StageWise | None,
        ema: float | None,
    ) -> None:
        self.parts = objective.parts
        self.device = objective.device
        self.objective: nn.Module = objective
        self.optimizer = _optimizer(self.parts, optimizer, lr)
        self.schedule = schedule
        if isinstance(schedule, LRScheduler) and schedule.optimizer is not self.optimizer:
            raise ValueError("the scheduler is of another optimizer: pass that one, an instance, as optimizer=")
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.clip = math.inf if clip is None else clip
        self.adjoint = adjoint
        self.stages = stages
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=objective.precision == torch.float16)
        self.average = None if ema is None else moving_average(self.parts, ema)
        self._failures = 0

    @property
    def outcome(self) -> Parts:
        """The parts as they are to be used: their average, if there is one."""
        return self.parts if self.average is None else cast(Parts, self.average.module)

    @contextmanager
    def distributed(self, processes: Processes) -> Iterator[None]:
        """Share the gradients with the other processes within the block.

        With the wrapper go its hooks on the parameters and its hold on the process group: a backward pass after the
        training is of this process alone, and the group can end before the interpreter does.
        """
        own, idle = self.objective, self.parts.solver.update.max_steps is not None
        self.objective = processes.wrap(own, idle_parameters=idle)
        try:
            yield
        finally:
            self.objective = own

    def step(self, batch: Any, at: Progress) -> Mapping[str, Tensor | float]:
        """Take a step and return what there is to be logged; nothing is changed where the gradient is not finite."""
        if self.schedule is not None and not isinstance(self.schedule, LRScheduler):
            factor = self.schedule(at)
            for group in self.optimizer.param_groups:
                group["lr"] = factor * group["initial_lr"]
        n, adjoint = self.parts.solver.steps, self.adjoint
        if self.stages is not None:
            n, alone = self.stages.at(at.share, n)
            adjoint = Truncated(1) if alone else adjoint
        value, numbers = self.objective(batch, n, adjoint)
        if not value.requires_grad:
            raise ValueError("the loss does not depend on what is trained: let it be computed from solve(x0, data).x")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.parameters, self.clip)
        at.step += 1
        finite = bool(torch.isfinite(norm))
        if finite:
            self.scaler.step(self.optimizer)
            if isinstance(self.schedule, LRScheduler):
                self.schedule.step()
            if self.average is not None:
                self.average.update_parameters(self.parts)
        self.scaler.update()
        return {**numbers, "gradient": norm} if self._passed(finite, at) else {}

    def _passed(self, finite: bool, at: Progress) -> bool:
        self._failures = 0 if finite else self._failures + 1
        if not finite:
            at.skipped += 1
            log.warning("step %d gave a non-finite gradient and was skipped", at.step)
        if self._failures == _HOPELESS:
            raise ValueError(
                f"the gradient was not finite in {_HOPELESS} steps in a row, the last of them step {at.step}: "
                "look at the data, or lower lr"
            )
        return finite

    def state_dict(self) -> dict[str, Any]:
        """Return all that a step changes."""
        return {
            "parts": self.parts.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if isinstance(self.schedule, LRScheduler) else None,
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over such a state; ValueError where it is of another training."""
        if (self.average is None) != (state["average"] is None):
            raise ValueError("of the two, one has ema and one has not")
        if isinstance(self.schedule, LRScheduler) != (state["schedule"] is not None):
            raise ValueError("of the two, one has a scheduler of torch and one has not")
        try:
            self.parts.load_state_dict(state["parts"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            # The optimiser takes tensors over as they are.
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        except RuntimeError as error:
            raise ValueError(" ".join(str(error).split())[:200]) from None
        self.scaler.load_state_dict(state["scaler"])
        if isinstance(self.schedule, LRScheduler):
            self.schedule.load_state_dict(state["schedule"])


def _optimizer(parts: Parts, given: Optimizer | Callable[..., Optimizer], lr: float | None) -> Optimizer:
    trained = [p for p in parts.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("there is nothing to train: no parameter of solver or projector requires a gradient")
    if isinstance(given, Optimizer):
        if lr is not None:
            raise ValueError("lr is for an optimizer that fit makes: the instance that was passed has its own")
        held = {id(p) for group in given.param_groups for p in group["params"]}
        if held.isdisjoint(map(id, trained)):
            raise ValueError("the optimizer has no parameter of the solver: make it from solver.parameters()")
        return given
    return given(trained) if lr is None else given(trained, lr=lr)
