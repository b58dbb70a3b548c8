"""Run as a program: `striate` as a process of a lab, told to save and end by the end of its stdin, which comes from the
lab, or because the lab is gone, however it ended.

Its first argument says as JSON where it finds modules: Python runs it isolated (`-I`), so that neither the current
folder nor the environment adds to that.
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
