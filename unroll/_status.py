"""When to stop, and what to say of how it went."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """A sample has converged where ||z - T(z)|| <= atol + rtol ||T(z)||, T a step of the scheme and z where it set out.

    By default it is relative alone, and so free of the scale of x; one that goes to 0 needs an atol. For
    forward-backward z is x itself. Every sample of the batch, its first dimension, has its own residual; a signal
    of fewer than two dimensions is one sample. Looking at it after every step costs a synchronisation with the device.
    """

    rtol: float = 1e-5
    atol: float = 0.0

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise ValueError(f"a tolerance needs rtol >= 0, atol >= 0 and one above 0, got {self.rtol} and {self.atol}")

    def excess(self, start: Tensor, reached: Tensor) -> tuple[Tensor, Tensor]:
        """Return ||z - T(z)|| and by how much it exceeds the bound, of rows z and T(z) (B, n), each (B,)."""
        residual = torch.linalg.vector_norm(reached - start, dim=1)
        return residual, residual - self.atol - self.rtol * torch.linalg.vector_norm(reached, dim=1)


@dataclass(frozen=True)
class Status:
    """How a call with a tolerance went.

    Attributes:
        steps: how many were taken; all samples take the same number.
        converged: (B,), whether the residual of the sample was within the tolerance at the last step.
        residual: (B,), ||z - T(z)|| of the last step.
        failed_at: (B,), after which step the sample was first not finite; -1 where it always was.
    """

    steps: int
    converged: Tensor
    residual: Tensor
    failed_at: Tensor

    @property
    def finite(self) -> Tensor:
        """Whether every iterate of the sample was finite, (B,)."""
        return self.failed_at < 0

    def __bool__(self) -> bool:
        """Whether all samples have converged."""
        return bool(self.converged.all())

    def __str__(self) -> str:
        said = [f"{int(self.converged.sum())} of {len(self.converged)} samples converged in {self.steps} steps"]
        said += [
            f"sample {i} was not finite after step {step}"
            for i, step in enumerate(self.failed_at.tolist())
            if step >= 0
        ]
        return "; ".join(said)
