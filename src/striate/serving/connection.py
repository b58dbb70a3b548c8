"""A connection that is closed if no request comes: uvicorn only limits the time after a response."""

from __future__ import annotations

import asyncio

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Protocol  # in C, a fifth of the time
except ImportError:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol  # type: ignore[assignment]

MOST_CONNECTIONS = 1024
"""Further connections are closed. The limit exceeds the size of the queue, so that clients of a full queue are told to
retry."""
SECONDS = 10.0
"""Time from the connection, or from a response, until the head of a request and the rest of a refused one are read."""


class Connection(Protocol):
    """uvicorn's connection, with these limits."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit for a request."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._limit()

    def data_received(self, data: bytes) -> None:
        """Stop the time limit once the head of a request is complete."""
        super().data_received(data)
        self._limit()

    def on_response_complete(self) -> None:
        """Start the time limit for the next request."""
        super().on_response_complete()
        self._limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        super().connection_lost(exc)
        self._stop()

    def _limit(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()  # the reader of the body has a time limit of its own
        elif self._end is None:
            self._end = self.loop.call_later(SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
