"""`striate lab`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from striate.lab.workbench import Lab


def lab(
    run: Path | None = None,
    /,
    *,
    unlabeled: Path | None = None,
    port: int = 0,
    open: Annotated[bool, Parameter(negative="--no-open")] = True,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Open the web page: build networks, watch them run, train them, see images as numbers.

    The page is served to this machine only, until Ctrl-C. The address that is printed contains the token that a browser
    needs. Needs fastapi and uvicorn: pip install 'striate[lab]'.

    Parameters
    ----------
    run
        A run directory or checkpoint to open.
    unlabeled
        A folder of pictures without labels, for the page Labels: the least confident predictions come first.
    port
        The port to serve on; 0 picks a free one.
    open
        Open the address in a browser, where the machine has a screen.
    json
        Print the address as one line of JSON on stdout: {"url": …}.
    """
    from striate.cli.output import print_address
    from striate.errors import UsageError, missing_extra

    try:
        from striate.lab.application import serve
        from striate.lab.workbench import Lab
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "starlette", "uvicorn", "pydantic"):
            raise
        raise missing_extra("striate lab", error.name, "lab", UsageError) from None

    if unlabeled is not None and (run is None or not unlabeled.is_dir()):
        got, expected = (str(unlabeled), "a folder") if run is not None else ("no run", "a run whose network predicts")
        raise UsageError("--unlabeled", got, expected, "striate lab RUN --unlabeled FOLDER")
    opened = Lab(run, unlabeled)
    opened.load()

    def announce(address: str) -> None:
        print_address(address, "The lab is open; Ctrl-C ends it.", json=json)
        if open:
            _show(address, opened)

    serve(opened, port, announce)
    return 0


def _show(address: str, lab: Lab) -> None:
    """Open the address in a browser with a window, not in one that would take over this terminal.

    The browser is given a file that redirects to the address and that only this user can read, since everybody on the
    machine can read arguments of a process. The file is removed once the browser has shown the token, or when the lab
    ends.
    """
    import os
    import shutil
    import tempfile
    import threading
    import webbrowser
    from functools import partial

    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    folder = Path(tempfile.mkdtemp(prefix="striate-lab-"))  # nobody else may enter it
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    page = folder / "open.html"
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><title>striate lab</title>')
    page.chmod(0o600)
    lab.at_end(remove)

    def show() -> None:
        webbrowser.open(page.as_uri())
        lab.signed_in.wait()
        remove()

    threading.Thread(target=show, daemon=True).start()
