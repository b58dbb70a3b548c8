"""`python -m striate` is the same as `striate`."""

import os
import sys
from contextlib import suppress


def start() -> int:
    """The program's exit code: 130 also where Ctrl-C comes while it is loaded."""
    try:
        from striate.cli import program

        return program()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    with suppress(OSError):  # the current folder was removed
        if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109 — imports nothing before
            del sys.path[0]  # `python -m` put it there: the files of the current folder may be a stranger's
    sys.exit(start())
