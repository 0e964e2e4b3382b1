"""What changes in the course of a training: the rate, and how many steps the solver takes."""

from __future__ import annotations

from dataclasses import dataclass

from unroll._training._progress import Progress


@dataclass(frozen=True)
class Trapezoid:
    """The rate min(1, (step + 1) / warmup) min(1, (1 - share) / decay) of the full one: up, level, down to zero.

    Args:
        warmup: how many steps it rises; 0 starts at the full rate.
        decay: over how much of the budget, 0 to 1, it falls at the end. A budget in seconds will do.
    """

    warmup: int = 0
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ValueError(f"warmup must be at least 0 steps, got {self.warmup}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be a share of the budget between 0 and 1, got {self.decay}")

    def __call__(self, at: Progress) -> float:
        """Return the factor of the rate for the next step."""
        rise = min(1.0, (at.step + 1) / self.warmup) if self.warmup else 1.0
        return rise * (min(1.0, (1 - at.share) / self.decay) if self.decay else 1.0)


@dataclass(frozen=True)
class StageWise:
    """Grow the solver: in stage k = 1..N it takes k steps, and what follows the last stage trains all N.

    The stages have equal shares of the budget. A stage may begin with its new step k alone: x_{k-1} is then computed
    without a graph (:class:`Truncated`), so that parameters of earlier steps stay and shared ones learn from step k.

    Args:
        until: the share of the budget, 0 to 1, that the N stages take together.
        alone: the share of every stage, 0 to 1, in which step k is trained alone.

    Source: X. Chen, J. Liu, Z. Wang and W. Yin, "Theoretical linear convergence of unfolded ISTA and its practical
    weights and thresholds", NeurIPS 2018, section 4.
    """

    until: float = 1.0
    alone: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise ValueError(f"until must be a share of the budget in (0, 1], got {self.until}")
        if not 0 <= self.alone <= 1:
            raise ValueError(f"alone must be a share of the stage between 0 and 1, got {self.alone}")

    def at(self, share: float, steps: int) -> tuple[int, bool]:
        """Return (k, whether step k is trained alone) where a share of the budget of a solver of N steps is spent."""
        if share >= self.until:
            return steps, False
        stage = share / self.until * steps
        return int(stage) + 1, stage % 1 < self.alone
