"""How far a training has come."""

from __future__ import annotations

from dataclasses import dataclass

from unroll._solver import Unrolled


@dataclass
class Progress:
    """What data, schedules, callbacks and evaluations are told of a running training.

    Attributes:
        solver: the one that is trained.
        average: its exponential moving average, or ``solver`` itself where none is kept. What changes the parameters of
            one by hand changes those of the other as well, where both should know.
        step: how many steps are done; the skipped ones count.
        seconds: how long they took, with what was trained before an interruption.
        share: how much of the budget is spent, 0 to 1.
        skipped: how many steps were skipped because the gradient was not finite.
        interrupted: whether SIGTERM or SIGINT has come; data that take long to make may give up then.
        stopped: set it to True to end the training after this step.
    """

    solver: Unrolled
    average: Unrolled
    step: int = 0
    seconds: float = 0.0
    share: float = 0.0
    skipped: int = 0
    interrupted: bool = False
    stopped: bool = False
