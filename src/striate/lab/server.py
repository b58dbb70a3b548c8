"""The lab's server: it says when it answers, and ends when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from striate.errors import UsageError
from striate.lab.application import make_application
from striate.lab.connection import Connection
from striate.lab.problems import shows_faults
from striate.lab.workbench import Lab

HOST = "127.0.0.1"
# It ends within two seconds; a busy machine may take some tenths of one to end a process that computes.
_GRACE = 1  # second that open connections have when the lab ends
_LAST = 1.1  # seconds after which it ends whatever still computes


def serve(lab: Lab, port: int, announce: Callable[[str], None]) -> None:
    """Serve the lab on `port` of this machine (0: a free one) until SIGINT, SIGTERM or SIGHUP.

    `announce` is called with the address, token included, once it answers. Raises UsageError for a port that cannot be
    had.
    """
    with _listen(port) as listening:
        number = listening.getsockname()[1]
        config = uvicorn.Config(
            make_application(lab, number),
            http=Connection,
            ws="none",
            proxy_headers=False,
            access_log=False,  # it would hold the token
            log_level="error" if shows_faults() else "critical",
            lifespan="off",
            timeout_graceful_shutdown=_GRACE,
        )
        server = _Server(config, lab, lambda: announce(f"http://{HOST}:{number}/?token={lab.token}"))
        asyncio.run(server.serve(sockets=[listening]))


class _Server(uvicorn.Server):
    """uvicorn's server, with our own beginning and end."""

    def __init__(self, config: uvicorn.Config, lab: Lab, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._lab, self._announce = lab, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """These signals end the server as it should end, and are not sent on: to be told to end is no failure."""
        loop = asyncio.get_running_loop()
        ours = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            ours.append(signal.SIGHUP)  # the terminal was closed; `nohup` ignores it
        for number in ours:
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            self._lab.end()
            for number in ours:
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        if not self.should_exit:
            # What computes in a thread cannot be stopped: it is not waited for.
            last = threading.Timer(_LAST, os._exit, (0,))
            last.daemon = True
            last.start()
            threading.Thread(target=self._lab.end, daemon=True).start()
        self.should_exit = True


def _listen(port: int) -> socket.socket:
    """A socket that listens on the port. Raises UsageError."""
    if not 0 <= port <= 65535:
        raise UsageError("--port", str(port), "0 to 65535; 0 picks a free one", "--port 0")
    # asyncio turns off the waiting for fuller packets (40 ms an answer) only where the protocol is named.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(512)
    except OSError as error:
        listening.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError("--port", f"{port}: {reason}", "a port that is free", "--port 0") from None
    return listening
