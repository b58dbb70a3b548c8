"""A connection that ends where it asks nothing: uvicorn only limits the time after an answer."""

from __future__ import annotations

import asyncio

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Protocol  # in C, a fifth of the time
except ImportError:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol  # type: ignore[assignment]

MOST_CONNECTIONS = 1024
"""More at once are closed. Clients have one each: with as many as the queue has places none would be told to come
again."""
SECONDS = 10.0
"""After its beginning, or after an answer, until the head of a request is there, and the rest of a refused one gone."""


class Connection(Protocol):
    """uvicorn's connection, with these limits."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._limit()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless this was the rest of a request's head."""
        super().data_received(data)
        self._limit()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._stop()

    def _limit(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()  # how long its body may take is for whoever reads it
        elif self._end is None:
            self._end = self.loop.call_later(SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
