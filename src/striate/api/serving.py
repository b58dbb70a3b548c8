"""Serve predictions of trained networks over HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from striate.api.networks import load
from striate.api.training import Run
from striate.errors import UsageError
from striate.machine.waiting import IdleTeam
from striate.runs.directory import path_of_run
from striate.serving.application import make_application
from striate.serving.server import Server, listen
from striate.serving.service import Limits, Service
from striate.wording import several

_GRACE = 1.7  # seconds for accepted requests when the server ends


def serve(
    runs: str | Path | Run | Sequence[str | Path | Run],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    limits: Limits | None = None,
    announce: Callable[[str], None] = print,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Answer requests for predictions of these runs until SIGINT or SIGTERM; blocks until then.

    `host` and `port` (0: a free one) of this machine. Clients show the `token`, 32 random characters by default.
    `announce` is given the address once the server answers, `say` later messages. When the server ends, accepted
    requests have 1.7 seconds to finish. Raises StriateError for a run that cannot be loaded, and for a port that is
    not free."""
    given = list(runs) if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]
    if not given:
        raise UsageError("serve", "no run", "a run, or several", "striate serve runs/NAME")
    if token is not None and (not token.isascii() or not token.isprintable() or len(token) < 8):
        expected = "8 or more printable ASCII characters"
        raise UsageError("--token", several(len(token), "character"), expected, "leave out --token: striate makes one")
    token = token or secrets.token_urlsafe(24)
    paths = [path_of_run(run) for run in given]
    service = Service(paths, load, limits or Limits(), say)
    # Waiting threads of torch sleep, since the same cores also read pictures and answer requests.
    with listen(host, port) as listening, closing(IdleTeam()) as team:
        team.set(True)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/?token={quote(token, safe='')}"
        app = make_application(service, token, shown)
        Server(app, lambda: announce(address), grace=_GRACE, lifespan=True).run_on(listening)
