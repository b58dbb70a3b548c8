"""Run as a program: `striate` as a process of a lab. It saves and ends at the end of its stdin, which the lab closes,
or which closes when the lab ends in any way.

Its first argument is the module search path as JSON: Python runs it isolated (`-I`), so that neither the current folder
nor the environment adds to it.
"""

import json
import os
import runpy
import signal
import sys
import threading


def _end_with_the_lab(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv.pop(1))
    lab = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the code of a network may read stdin
    threading.Thread(target=_end_with_the_lab, args=(lab,), daemon=True).start()
    runpy.run_module("striate", run_name="__main__", alter_sys=True)
