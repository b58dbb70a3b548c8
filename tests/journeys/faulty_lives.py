"""A program that lets each call on the files of a run fail once: forked for each case from one process that has
everything loaded, with `faults.c` before libc.

Called with one JSON document: the `words` of a verb, those to `recover` with, the folder `below` which calls fail, the
`errors` (numbers; 0: half of what a read or a write is asked for; -1: the process is killed there), and the step in
which calls are taken, `every`. Where it has `killed_at`, a share of the calls, a life that is killed there comes first,
and calls of its recovery fail. Prints a JSON line a case: the `call`, how it `ended`, how the recovery did, and in
`wrong` what must not be.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

PATIENCE = 120  # seconds for a life
_LEFT = {".lock", ".tmp", ".damaged"}  # a lock that is free, half a file, what could not be read and was put aside
_TIMES = {"seconds", "images_per_second", "data_wait", "augment_share"}
_SHIM = ctypes.CDLL(None)
_SHIM.faults_calls.restype = ctypes.c_long
_SHIM.faults_told.restype = ctypes.c_char_p


def arm(below: Path, call: int, error: int) -> None:
    """From here on the call of this number below the folder fails."""
    _SHIM.faults_arm(str(below).encode(), ctypes.c_long(call), error)


def life(words: list[str], below: Path, call: int, error: int) -> dict[str, Any]:
    """One process of a verb; how it ended, what it said, how many calls it made, and which one failed."""
    said, told = below.with_name("said.txt"), below.with_name("told.json")
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        code = 99
        try:
            with said.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            from striate.cli import main

            arm(below, call, error)
            code = main(words)
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            calls, what = _SHIM.faults_calls(), _SHIM.faults_told().decode()
            _SHIM.faults_arm(b"", ctypes.c_long(0), 0)
            told.write_text(json.dumps([calls, what]))
            os._exit(code)
    _, status = os.waitpid(child, 0)
    calls, what = json.loads(told.read_text()) if told.exists() else (0, "")
    return {
        "rc": os.waitstatus_to_exitcode(status),
        "said": said.read_text(errors="replace"),
        "calls": calls,
        "what": what,
    }


def digest(below: Path) -> dict[str, Any]:
    """What must be the same: bits of weights, rows and figures without times, every other file that never changes."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in below.rglob("*") if path.is_file()):
        name = file.relative_to(below).as_posix()
        if name.endswith(".pt"):
            if file.name != "previous.pt":  # which the second life may write at another step
                found[name] = _weights(file)
        elif name.endswith("metrics.json"):
            metrics = json.loads(file.read_text())
            found[name] = [metrics.get(key) for key in ("train", "val", "test", "steps", "best_epoch", "epochs")]
        elif file.name in ("metrics.csv", "cv.csv", "trials.csv"):
            rows = [line.split(",") for line in file.read_text().splitlines()]
            kept = [k for k, column in enumerate(rows[0] if rows else ()) if column not in _TIMES]
            found[name] = [[row[k] for k in kept] for row in rows]
        elif file.name == ".lock" or file.suffix in _LEFT or file.name.startswith("study.journal"):
            continue
        elif file.suffix in (".txt", ".csv", ".yaml", ".tar", "") or file.name in ("signal.json", "evaluation.json"):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        else:
            found[name] = bool(file.stat().st_size)
    return found


def _weights(file: Path) -> str:
    from striate.runs.checkpoint import load_checkpoint

    content, bits = load_checkpoint(file), hashlib.sha256()
    for name, tensor in content["model"].items():
        bits.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return f"{content['step']} {bits.hexdigest()}"


def quiet() -> None:
    """No pictures; a checkpoint at every third event, so that there are several."""
    from itertools import count

    from PIL import Image

    from striate.machine.second_process import Later
    from striate.report import finish
    from striate.training import saving
    from striate.visualize.page_parts import Picture

    def tiny(folder: Path, *_: object) -> Picture:
        Image.new("RGB", (1, 1)).save(folder / "signal.png")
        return Picture("Signal", "one pixel", folder / "signal.png", "signal")

    nothing: dict[str, Any] = {
        "_curves": lambda run, _: Later(tiny, (run.plots,), None),
        "_sample_pictures": lambda *_: Later(tuple, (), None),
        "draw_first_filters": lambda *_: (),
        "of_task": lambda *_: {},
    }
    for name, instead in (nothing | {"draw_signal": tiny}).items():
        setattr(finish, name, instead)
    events = count(1)
    saving.Saver.due = lambda *_, **__: next(events) % 3 == 0  # type: ignore[method-assign]


def main() -> None:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    below, words, recover = Path(asked["below"]), asked["words"], asked["recover"]
    below.parent.mkdir(parents=True, exist_ok=True)
    quiet()
    expected, calls = warm(words, below)
    begun = below.with_name("begun") if asked.get("killed_at") else None
    if begun is not None:
        shutil.rmtree(below)
        assert life(words, below, round(asked["killed_at"] * calls), -1)["rc"] == -signal.SIGKILL
        below.rename(begun)
        words = recover
    for number, error in enumerate(asked["errors"]):
        _fresh(below, begun)
        counted = life(words, below, 0, error)
        assert counted["rc"] == 0, counted["said"]
        for call in range(1 + number, counted["calls"] + 1, asked["every"]):
            _fresh(below, begun)
            print(json.dumps(case(words, recover, below, call, error, expected)), flush=True)


def warm(words: list[str], below: Path) -> tuple[dict[str, Any], int]:
    """The verb in this process, so that no life has to load anything: what must be the same, and its calls."""
    from striate.cli import main as verb

    with contextlib.redirect_stdout(sys.stderr):
        arm(below, 0, errno.EIO)
        assert verb(words) == 0
        calls = _SHIM.faults_calls()
        arm(Path(), 0, 0)
    gc.freeze()
    return digest(below), calls


def _fresh(below: Path, begun: Path | None) -> None:
    shutil.rmtree(below, ignore_errors=True)
    if begun is not None:
        shutil.copytree(begun, below)


def case(
    words: list[str], recover: list[str], below: Path, call: int, error: int, expected: dict[str, Any]
) -> dict[str, Any]:
    """One call fails; then the same is done again, or gone on with, on a disk without faults."""
    armed, wrong = life(words, below, call, error), []
    after = armed
    if armed["rc"] not in ((-signal.SIGKILL,) if error < 0 else (0, 2)) or "Traceback" in armed["said"]:
        wrong.append(f"ended {armed['rc']}: {armed['said'][-2000:]}")
    if armed["rc"]:
        begun = any((below / name).exists() for name in ("config.yaml", "study.yaml"))
        after = life(recover if begun else words, below, 0, 5)
        if after["rc"] not in (0, 2) or "Traceback" in after["said"]:
            wrong.append(f"the recovery ended {after['rc']}: {after['said'][-2000:]}")
    if after["rc"] == 0:
        found = digest(below)
        differ = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
        if differ:
            wrong.append(f"other files: {', '.join(sorted(differ))}")
    return {
        **{"call": call, "error": error, "what": armed["what"], "ended": armed["rc"], "recovered": after["rc"]},
        **{"refused": after["said"][-600:] if after["rc"] == 2 else "", "wrong": wrong},
    }


if __name__ == "__main__":
    main()
