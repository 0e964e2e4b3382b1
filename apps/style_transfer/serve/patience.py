"""Connections that are not kept for those who send nothing: a deadline for the head of a request, and a limit of many.

Uvicorn lets a head take for ever, byte by byte, takes as many connections as there are file handles, and reads on
without end where a request that is answered already has none.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
CONNECTIONS = 256
LATE = 1 << 25
"""Bytes that are read of a request after its answer: one who is cut off at once may not see that."""

_CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b'Content-Length: 70\r\n\r\n{"error": "too many connections are open: try again in a few seconds"}'
)


def patient(*, head_seconds: float = HEAD_SECONDS, connections: int = CONNECTIONS) -> type[H11Protocol]:
    """Return the protocol for ``uvicorn.Config(http=...)``.

    Args:
        head_seconds: how long a request line and its headers may take, from the opening of the connection, or from
            their first byte on one that is kept alive.
        connections: that may be open; one more is answered 503 and closed.
    """

    class Patient(H11Protocol):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._deadline: asyncio.TimerHandle | None = None
            self._late = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > connections:
                transport.write(_CROWDED)
                transport.close()
            else:
                self._watch()

        def data_received(self, data: bytes) -> None:
            if not self.transport.is_closing():
                super().data_received(data)
                self._watch()
                if self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete:
                    self._late += len(data)
                    if self._late > LATE:
                        self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Start the clock where a head is awaited, and stop it where one has come."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._unwatch()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(head_seconds, self.transport.close)

        def _unwatch(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Patient
