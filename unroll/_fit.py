"""Training of a solver, in one function."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from unroll._adjoint import Adjoint
from unroll._operator import Operator
from unroll._solver import Unrolled
from unroll._training import _checkpoint as checkpoints
from unroll._training._data import Batches, generators, set_generators
from unroll._training._distributed import Processes
from unroll._training._learner import Learner, Objective, Parts
from unroll._training._log import Log
from unroll._training._loss import LossFunction
from unroll._training._progress import Progress
from unroll._training._schedule import StageWise
from unroll._training._signals import interruptible


class Fitted(NamedTuple):
    """What a training ends with.

    Attributes:
        solver, projector: the averaged copies, if an average was kept; else those that were passed, which are trained.
        step, seconds, skipped: how long the training was, interruptions and all; how many steps were skipped.
        interrupted: whether a signal ended it before its budget was spent.
        log: the lines of the log since the call.
    """

    solver: Unrolled
    projector: Operator | None
    step: int
    seconds: float
    skipped: int
    interrupted: bool
    log: list[dict[str, Any]]


def fit(
    solver: Unrolled,
    loss: LossFunction,
    data: Iterable[Any] | Callable[[Progress], Any],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    optimizer: Optimizer | Callable[..., Optimizer] = torch.optim.Adam,
    lr: float | None = None,
    schedule: Callable[[Progress], float] | LRScheduler | None = None,
    clip: float | None = None,
    projector: Operator | None = None,
    adjoint: Adjoint | None = None,
    stages: StageWise | None = None,
    ema: float | None = None,
    precision: torch.dtype | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    save_every: float = 300.0,
    log: Path | str | None = None,
    log_every: int = 20,
    bar: bool = True,
    callbacks: Sequence[Callable[[Progress], object]] = (),
    evaluate: Callable[[Progress], Mapping[str, Any]] | None = None,
) -> Fitted:
    """Train a solver in place: theta <- theta - step of the optimizer on the loss, batch after batch.

    >>> import torch, unroll
    >>> problem = unroll.recipes.SparseRecovery(m=10, n=20)
    >>> def data(at):
    ...     x, y = problem.batch(32, torch.Generator().manual_seed(at.step))
    ...     return torch.zeros_like(x), y, x
    >>> solver = unroll.recipes.alista(problem.matrix, steps=5)
    >>> result = unroll.fit(solver, unroll.Supervised(), data, steps=60, lr=1e-2)
    >>> result.log[-1]["loss"] < result.log[0]["loss"]
    True

    **Interruptions.** SIGTERM and Ctrl-C let the step be finished and all be saved; then fit returns, and says so
    (``interrupted``). A second Ctrl-C raises KeyboardInterrupt. With ``resume`` it goes on from the checkpoint, and on
    a CPU a training by steps ends bit-equal to one that was never interrupted, torch's random state included, provided
    that the data can be found again. They can if they are

    - a function of the progress that makes the batch from ``at.step`` alone: the best way for data made on the fly;
    - an iterable with ``state_dict`` and ``load_state_dict``, such as torchdata's StatefulDataLoader;
    - any other iterable whose order follows from torch's random state when it is iterated (a list, a DataLoader that
      shuffles), or that a generator of its own, seeded anew, makes again from its beginning. The batches of the present
      epoch are then drawn once more and left out.

    **Several processes.** Run by ``torchrun``, with ``torch.distributed.init_process_group()`` called first, the
    gradient is the mean over the processes (DistributedDataParallel): that of the joined batch, if theirs are of one
    size. Each process passes its own data (those of its rank) and the same arguments otherwise, and sees the same
    checkpoint file; the first one writes it, and the log. A signal to one ends all of them after the same step. Sharded
    parameters (FSDP) are not supported: ``fully_shard`` takes no scalars, such as step sizes and thresholds.

    A step whose gradient is not finite changes nothing and is counted. The modes ``train`` and ``eval`` of the modules
    are left as they are, and batches where they are: the data lie on the device of the solver.

    Args:
        solver: what is trained.
        loss: ``loss(solve, batch)``, the value for each sample or their mean, or that and a mapping of numbers for the
            log; ``solve(x0, data)`` is the solver, see :class:`Solve`. :class:`Supervised` and :class:`Unsupervised`
            are such losses. Parameters of the loss are not trained.
        data: batches, as the loss wants them; begun again where they end. Or ``data(at)``, see :class:`Progress`.
        steps, seconds: the budget, one of the two.
        optimizer: an instance, or a function (of a list of parameters, and ``lr`` if that is given) that makes one.
        lr: the rate, by default the optimizer's own.
        schedule: ``schedule(at)``, the factor of the rate at a step, by steps, seconds or the share of the budget, such
            as :class:`Trapezoid`. Or a scheduler of torch, which takes a step after each of the optimizer.
        clip: the largest norm of the gradient; a longer one is scaled to it.
        projector: P in every call of the solver; its parameters are trained too.
        adjoint: how to differentiate, see :class:`Adjoint`.
        stages: how the solver grows, see :class:`StageWise`.
        ema: the decay d, in [0, 1), of the average m <- d' m + (1 - d') theta, d' = min(d, t / (t + 10)) after step t.
        precision: bfloat16 or float16, of ``torch.autocast`` around the loss; float16 with ``torch.amp.GradScaler``.
        checkpoint: the file, all or nothing at any moment, that holds what a resumed training needs. It is read
            without unpickling objects.
        resume: go on from the checkpoint, if there is one.
        save_every: save and evaluate after so many seconds, and at the end.
        log: a file of JSON lines, begun anew or, with ``resume``, from the checkpoint on: means of the loss, of what
            the loss returns beside it, and of the gradient's norm, since the line before.
        log_every: after how many steps there is a line.
        bar: draw a progress bar, on a terminal.
        callbacks: each is called after every step.
        evaluate: called when all is saved and at the end; what it returns is a line of the log.

    Raises:
        ValueError: arguments or batches that do not fit together; a checkpoint of another training; no finite gradient
            in 100 steps.
    """
    _check(steps, seconds, clip, ema, precision, save_every, log_every)
    if resume and checkpoint is None:
        raise ValueError("resume needs the path of a checkpoint to go on from")
    path = None if checkpoint is None else Path(checkpoint)
    objective = Objective(Parts(solver, projector), loss, precision)
    learner = Learner(
        objective, optimizer, lr=lr, schedule=schedule, clip=clip, adjoint=adjoint, stages=stages, ema=ema
    )
    processes = Processes(objective.device)
    at = Progress(solver, learner.outcome.solver)
    run = _Run(at, learner, Batches(data), Log(), processes, steps, seconds)
    resumed = resume and path is not None and path.exists()
    if resumed and path is not None:
        run.restore(path)
    if log is not None and processes.rank == 0:
        run.log.open(Path(log), resumed_at=at.step if resumed else None)

    def save_and_evaluate() -> None:
        if path is not None and at.step:
            run.save(path)
        if evaluate is not None and (numbers := evaluate(at)):
            run.log.write(at, numbers)

    with learner.distributed(processes), interruptible(at), closing(run.bar(bar)) as progress_bar:
        saved = at.seconds
        for batch in run.batches_to_come():
            run.log.add(**learner.step(batch, at))
            run.tick()
            if at.step % log_every == 0 and (means := run.log.means()):
                run.log.write(at, {**means, "skipped": at.skipped})
                progress_bar.set_postfix_str(f"step {at.step}, loss {means['loss']:.4g}")
            progress_bar.update(100 * at.share - progress_bar.n)
            for callback in callbacks:
                callback(at)
            if at.seconds - saved >= save_every and at.share < 1:
                save_and_evaluate()
                saved = at.seconds
        progress_bar.update(100 * at.share - progress_bar.n)
        if at.share >= 1 and (means := run.log.means()):
            run.log.write(at, {**means, "skipped": at.skipped})
        save_and_evaluate()
        processes.wait()
    outcome = learner.outcome
    interrupted = at.interrupted and at.share < 1
    return Fitted(outcome.solver, outcome.projector, at.step, at.seconds, at.skipped, interrupted, run.log.lines)


class _Run:
    """The state of a training: what a checkpoint holds, and when it ends."""

    def __init__(
        self,
        at: Progress,
        learner: Learner,
        batches: Batches,
        log: Log,
        processes: Processes,
        steps: int | None,
        seconds: float | None,
    ) -> None:
        self.at = at
        self.learner = learner
        self.batches = batches
        self.log = log
        self.processes = processes
        self.steps = steps
        self.seconds = seconds
        self._began: float | None = None
        self._asked = False

    def batches_to_come(self) -> Iterator[Any]:
        """Yield batches until the budget is spent or the training is to end."""
        while not self.tick():
            batch = self.batches.next(self.at)
            # What a function gave is not missed, and may have been given up half made; batches of an iterable count.
            if self.batches.function is not None:
                self.tick()
                if self._asked:
                    return
            yield batch

    def tick(self) -> bool:
        """Bring the progress up to date, alike in all processes, and return whether no further step is to be taken."""
        at, now = self.at, time.monotonic()
        if self._began is None:
            self._began = now - at.seconds
        interrupted, stopped, seconds = self.processes.most(at.interrupted, at.stopped, now - self._began)
        at.seconds = seconds
        at.share = min(1.0, at.step / self.steps if self.steps is not None else seconds / (self.seconds or 1))
        # Only ever set here: a signal may come at any moment.
        if interrupted:
            at.interrupted = True
        if stopped:
            at.stopped = True
        self._asked = bool(interrupted or stopped)
        return self._asked or at.share >= 1

    def save(self, path: Path) -> None:
        """Write the checkpoint, in the first of the processes."""
        own = {"generators": generators(self.learner.device), "data": self.batches.state_dict()}
        state = {
            **self.learner.state_dict(),
            "step": self.at.step,
            "seconds": self.at.seconds,
            "skipped": self.at.skipped,
            "log": self.log.state_dict(),
            "processes": self.processes.gather(own),
        }
        if self.processes.rank == 0:
            checkpoints.save(path, state)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = checkpoints.load(path)
        if len(state["processes"]) != self.processes.count:
            raise ValueError(
                f"{path} was saved by {len(state['processes'])} processes and is resumed by {self.processes.count}: "
                "run as many"
            )
        try:
            self.learner.load_state_dict(state)
        except ValueError as error:
            raise ValueError(
                f"{path} is of another training: resume with the same solver and options ({error})"
            ) from None
        self.at.step, self.at.seconds, self.at.skipped = state["step"], state["seconds"], state["skipped"]
        self.log.load_state_dict(state["log"])
        own = state["processes"][self.processes.rank]
        self.batches.load_state_dict(own["data"])
        set_generators(self.learner.device, own["generators"])

    def bar(self, wanted: bool) -> Any:
        """Return a progress bar of the budget, in per cent."""
        from tqdm import tqdm  # here, for `import unroll` is to be quick

        silent = None if wanted and self.processes.rank == 0 else True
        return tqdm(total=100, unit="%", desc="training", disable=silent, bar_format="{l_bar}{bar}| {elapsed}{postfix}")


def _check(
    steps: int | None,
    seconds: float | None,
    clip: float | None,
    ema: float | None,
    precision: torch.dtype | None,
    save_every: float,
    log_every: int,
) -> None:
    if (steps is None) == (seconds is None):
        raise ValueError("give the budget of the training as steps or as seconds, one of the two")
    for name, value in {"steps": steps, "seconds": seconds, "clip": clip, "log_every": log_every}.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    if ema is not None and not 0 <= ema < 1:
        raise ValueError(f"ema must lie in [0, 1), got {ema}")
    if precision not in (None, torch.bfloat16, torch.float16):
        raise ValueError(f"precision must be torch.bfloat16 or torch.float16, got {precision}")
    if not save_every >= 0:
        raise ValueError(f"save_every must be at least 0 seconds, got {save_every}")
