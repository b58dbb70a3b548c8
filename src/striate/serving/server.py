"""A web server that announces when it is ready, and ends within a time limit on a signal."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from striate.errors import UsageError
from striate.serving.connection import Connection

_HOSTS = "--host 127.0.0.1 for this machine only, or --host 0.0.0.0 for every interface"
_LAST = 0.1  # seconds from the end of open connections to the end of the process


class Server(uvicorn.Server):
    """uvicorn's server: `announce` is called once it is ready, `end` in a thread when it ends. Open requests then have
    `grace` seconds; threads that still compute end with the process."""

    def __init__(
        self,
        app: ASGIApp,
        announce: Callable[[], None],
        end: Callable[[], None] = lambda: None,
        *,
        grace: float = 1,
        log_level: str = "critical",
        lifespan: bool = False,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            proxy_headers=False,
            access_log=False,  # it would contain the token
            log_level=log_level,
            lifespan="on" if lifespan else "off",
            timeout_graceful_shutdown=grace,  # type: ignore[arg-type]  # fractions of a second work too
        )
        super().__init__(config)
        self._announce, self._end_of_all, self._last = announce, end, grace + _LAST

    def run_on(self, listening: socket.socket) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP."""
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self.serve(sockets=[listening]))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and announce it."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End the server on these signals, without raising them again: such an end is not a failure."""
        loop = asyncio.get_running_loop()
        ours = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            ours.append(signal.SIGHUP)  # the terminal is closed; `nohup` ignores the signal
        for number in ours:
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            self._end_of_all()
            for number in ours:
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        if not self.should_exit:
            last = threading.Timer(self._last, os._exit, (0,))
            last.daemon = True
            last.start()
            threading.Thread(target=self._end_of_all, daemon=True).start()
        self.should_exit = True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's faster event loop, where it is installed; else None."""
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[no-any-return,unused-ignore]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address of this machine (port 0: a free one). Raises UsageError."""
    if not 0 <= port <= 65535:
        raise UsageError("--port", str(port), "0 to 65535; 0 picks a free one", "--port 0")
    # Only with the protocol named does asyncio turn off Nagle's algorithm, which delays a response by 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(512)
    except OSError as error:
        listening.close()
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise UsageError("--host", f"{host}: {error.strerror}", "an address of this machine", _HOSTS) from None
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise UsageError("--port", f"{port}: {reason}", "a free port", "--port 0") from None
    return listening
