"""How much a server takes upon itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is refused, and when what nobody collects goes.

    Attributes:
        queue: jobs being uploaded, waiting or at work; one more is refused with 503.
        pixels: of an uploaded picture.
        result_pixels: of a result, which takes some 60 bytes of memory for each, beside 1.1 GB.
        bytes: of an uploaded file.
        kept: finished jobs whose results are kept; the oldest goes first.
        keep_seconds: how long a result is kept.
        patience_seconds: a job that waits or is at work is dropped if nobody asked for it so long.
        upload_seconds: the longest an upload may take.
        idle_seconds: the longest it may pause.
    """

    queue: int = 16
    pixels: int = 25_000_000
    result_pixels: int = 25_000_000
    bytes: int = 64_000_000
    kept: int = 32
    keep_seconds: float = 900
    patience_seconds: float = 120
    upload_seconds: float = 300
    idle_seconds: float = 20

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"the limit {name.replace('_', ' ')} must be above 0, got {value:g}")


class RefusedError(Exception):
    """A request that is not served: its status, one line for the user, and for 503 when to come again."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
