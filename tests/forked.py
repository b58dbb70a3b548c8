"""What must not touch this process, or has to end without warning, in a fork of it: a program of its own takes seconds
to load what is loaded here."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any


def in_fork(function: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    """The exit code of a fork that calls a function, 1 where it raises, and what the function returns; None where it
    did not come to its end."""
    hear, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            found = pickle.dumps(function(*arguments))
            with os.fdopen(tell, "wb") as file:
                file.write(found)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(tell)
    with os.fdopen(hear, "rb") as file:
        said = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, pickle.loads(said) if said else None
