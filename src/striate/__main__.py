"""`python -m striate` is the same as `striate`."""

import os
import sys
from contextlib import suppress

with suppress(OSError):  # the current folder was removed
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109 — imports nothing before
        del sys.path[0]  # `python -m` put it there: the files of the current folder may be a stranger's

from striate.cli import program

sys.exit(program())
