"""`striate serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

_EXTRA = ("fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client", "python_multipart", "multipart")


def serve(
    run: Path,
    /,
    *runs: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    queue: Annotated[int, Parameter(validator=Number(gte=1, lte=100_000))] = 256,
    largest: Annotated[int, Parameter(validator=Number(gte=1, lte=1024))] = 32,
    open: Annotated[bool, Parameter(negative="--no-open")] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Answer requests for predictions over HTTP, until Ctrl-C.

    POST /predict with the bytes of a picture returns what `striate predict --json` prints; send several pictures as
    multipart. GET /health, /runs, /metrics (for Prometheus), /openapi.json, and a page to try it at /. Requests that
    come together are computed together. Needs fastapi and uvicorn: pip install 'striate[serve]'.

    Parameters
    ----------
    run
        A run directory, a checkpoint, or what striate export wrote; it is loaded anew when its weights change.
    runs
        Further runs; a request selects one by /predict?run=NAME.
    host
        The address to serve at; 0.0.0.0 for every interface, for example in a container.
    port
        The port to serve on; 0 picks a free one.
    token
        The token of the header Authorization: Bearer TOKEN; 8 or more printable ASCII characters. Default:
        $STRIATE_TOKEN, or a random one.
    queue
        Largest number of pictures that wait for a prediction; a request beyond it gets 429 and a time to retry after.
    largest
        Largest size of a request in MiB.
    open
        Open the page in a browser; it asks for the token.
    json
        Print the address as one line of JSON on stdout: {"url": …}.
    """
    import os
    import webbrowser

    from striate.cli.output import print_address, print_note
    from striate.errors import UsageError, missing_extra

    try:
        from striate.api.serving import serve as serve_runs
        from striate.serving.service import Limits
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise missing_extra("striate serve", error.name, "serve", UsageError) from None

    def announce(address: str) -> None:
        print_address(address, "Ctrl-C ends it.", json=json)
        if open:
            webbrowser.open(address.partition("?")[0])  # without the token: others can read arguments of a process

    serve_runs(
        [run, *runs],
        host=host,
        port=port,
        token=token or os.environ.get("STRIATE_TOKEN"),
        limits=Limits(queue=queue, largest=largest << 20),
        announce=announce,
        say=print_note,
    )
    return 0
