"""The lab's server: it announces its address, and ends on a signal."""

from __future__ import annotations

from collections.abc import Callable

from striate.lab.application import make_application
from striate.lab.problems import shows_faults
from striate.lab.workbench import Lab
from striate.serving.server import Server, listen

HOST = "127.0.0.1"


def serve(lab: Lab, port: int, announce: Callable[[str], None]) -> None:
    """Serve the lab on `port` of this machine (0: a free one) until SIGINT, SIGTERM or SIGHUP.

    `announce` is called with the address, token included, once the server is ready. Raises UsageError for a port that
    is not free.
    """
    with listen(HOST, port) as listening:
        number = listening.getsockname()[1]
        Server(
            make_application(lab, number),
            lambda: announce(f"http://{HOST}:{number}/?token={lab.token}"),
            lab.end,
            log_level="error" if shows_faults() else "critical",
        ).run_on(listening)
