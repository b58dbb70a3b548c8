"""The training process of a lab, and the state of a run while it trains, read from the run's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import striate
from striate.doctor.run_curves import TOO_SHORT, Curves, curve_findings, read_curves
from striate.errors import StriateError
from striate.lab.problems import LABELS
from striate.records import Remedy
from striate.runs.directory import RunDirectory
from striate.runs.lock import owner
from striate.runs.plain_files import is_there
from striate.runs.verified_files import read_verified, read_verified_json
from striate.runs.watching import read_snapshot, request_snapshots
from striate.tasks.metric import LOSS
from striate.tasks.registry import known_metrics, metric_named
from striate.training.config import Config
from striate.training.config_file import config_from_yaml

COMMAND = (sys.executable, "-I", "-u", str(Path(__file__).with_name("supervised.py")))
_LINES = 12  # of its messages that are shown
_BYTES = 100_000  # of its messages that are read


@dataclass(frozen=True)
class TrainingEnd:
    """How a training ended."""

    code: int
    """Exit code of the process."""
    error: dict[str, Any] | None
    """The error as a record, where the request could not be carried out; else None."""
    last_lines: tuple[str, ...]
    """The last lines that the process wrote."""


class TrainingProcess:
    """A running process of `striate train --json` with these arguments; `run` is the directory that it writes.

    At the end of its stdin it saves and ends, also when the lab is killed, and can be resumed. Ctrl-C in the terminal
    of the lab does not reach it.
    """

    def __init__(self, arguments: Sequence[str], run: Path) -> None:
        self.run = run
        self.stopping = False
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 — closed with self
        self._process = subprocess.Popen(
            [*COMMAND, json.dumps(_module_folders()), "train", *arguments, "--json"],
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
            env=os.environ | {"NO_COLOR": "1"},
        )
        assert self._process.stdin is not None
        self._tell_to_end = self._process.stdin.close
        for close in (self._out.close, self._err.close, self._tell_to_end):
            weakref.finalize(self, close)

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Make the process save and end; a second signal would end it immediately, so only the first call has an
        effect."""
        if not self.stopping and self.running:
            self.stopping = True
            self._tell_to_end()

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; whether the process has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_lines(self) -> tuple[str, ...]:
        """The last lines that the process wrote."""
        lines = _read(self._err).decode(errors="replace").splitlines()
        return tuple(line for line in lines if line.strip())[-_LINES:]

    def ended(self) -> TrainingEnd | None:
        """How the process ended; None while it runs."""
        if self.running:
            return None
        error = None
        with suppress(ValueError):
            document = json.loads(_read(self._out) or b"{}")
            error = document.get("error") if isinstance(document, dict) else None
        return TrainingEnd(self._process.returncode, error if isinstance(error, dict) else None, self.last_lines())


def _module_folders() -> list[str]:
    """The module search path of this process without the current folder, whose files may be a stranger's."""
    own, here = Path(striate.__file__).parents[1], Path.cwd()
    return [text for text in sys.path if (folder := Path(text).resolve()) != here or folder == own]


def _read(file: IO[bytes]) -> bytes:
    """The end of a file that a process is writing; not by seeking, which would move the position where it writes."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _BYTES, max(0, size - _BYTES))


_MOST_SNAPSHOTS = 60  # of a run
_INTERRUPTED = (130, -2, -15)  # exit codes: as striate ends, and as Python ends before it trains


class Snapshots:
    """Caches snapshots of runs, so that a page can show earlier ones: the first, and others evenly spaced in steps."""

    def __init__(self) -> None:
        self._of: dict[Path, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def add(self, run: Path, snapshot: dict[str, Any]) -> None:
        """Cache a snapshot by the step of its filters; a step before the newest one means that the run has started
        again."""
        step = snapshot.get("filters_step")
        step = step if isinstance(step, int) else snapshot["step"]
        entry = {"step": step, **{key: snapshot.get(key) for key in ("filters", "layers", "layers_step")}}
        with self._lock:
            cached = self._of.setdefault(run, [])
            if cached and step < cached[-1]["step"]:
                cached.clear()
            if cached and step == cached[-1]["step"]:
                cached[-1] = entry  # with newer layers
            else:
                cached.append(entry)
            if len(cached) > _MOST_SNAPSHOTS:
                del cached[1:-1:2]

    def steps(self, run: Path) -> list[int]:
        """The steps of the cached snapshots."""
        with self._lock:
            return [snapshot["step"] for snapshot in self._of.get(run, ())]

    def at(self, run: Path, step: int) -> dict[str, Any] | None:
        """The snapshot nearest to a step."""
        with self._lock:
            return min(self._of.get(run, ()), key=lambda snapshot: abs(snapshot["step"] - step), default=None)


def follow(run: RunDirectory, own: TrainingProcess | None, snapshots: Snapshots, epochs_known: int) -> dict[str, Any]:
    """The current state of a run as a JSON object; a running training is also made to write snapshots.

    `state`: `preparing training finishing stopping paused stopped finished failed`, or `elsewhere` for a training that
        this lab has not started; `stopped`: ended before there was anything to save
    `own`: whether this lab trains it
    `data model epochs steps batch lr optimizer`: as decided
    `metric`: the `key`, the `name` and whether it `is_share` of the metric that is followed beside the loss, or None
    `rows`: those of metrics.csv after the first `epochs_known`
    `saved_step`: where it was last paused
    `look`: the newest snapshot, as in `training/snapshots.py`; `looks`: the steps of the cached ones
    `notes`, `findings`, `result` (metrics.json)
    `said`: the last lines of the process; `refusal`: its error as a record
    """
    ended = None if own is None else own.ended()  # first: a process that has ended has written all of its files
    config = _config(run)
    curves = _curves(run, config)
    state = _state(run, own, ended, over=_steps_are_over(config, curves))
    if state in ("training", "elsewhere"):
        request_snapshots(run)
    snapshot = None if config is None else read_snapshot(run)
    if snapshot is not None and isinstance(snapshot.get("step"), int):
        snapshots.add(run.path, snapshot)
    rows = [dict(zip(curves.columns, row, strict=True)) for row in zip(*curves.columns.values(), strict=True)]
    return {
        "state": state,
        "own": own is not None,
        "path": str(run.path),
        **_facts(config),
        "metric": _followed(curves),
        "rows": rows[epochs_known:],
        "epochs_done": len(rows),
        "saved_step": _saved_step(curves),
        "look": snapshot,
        "looks": snapshots.steps(run.path),
        "notes": _notes(curves, finished=state == "finished"),
        "findings": _findings(curves, "DATA" if config is None else config.data.source, over=state == "finished"),
        "result": read_verified_json(run.metrics_json) if state == "finished" else None,
        "said": [] if own is None else list(own.last_lines()),
        "refusal": None if ended is None else ended.error,
    }


def _notes(curves: Curves, *, finished: bool) -> list[str]:
    lost = finished and all(event["event"] != "finished" for event in curves.events)
    notes = [str(event.get("text", "")) for event in curves.events if event["event"] == "note"]
    return notes + ["events.jsonl is damaged: some of what happened in this run is not known"] * lost


def _saved_step(curves: Curves) -> int:
    """The step at which the run was last paused or resumed; 0 if it was never interrupted."""
    pauses = (event.get("step") for event in reversed(curves.events) if event["event"] in ("interrupted", "resumed"))
    step = next(pauses, 0)
    return step if isinstance(step, int) else 0


def _state(run: RunDirectory, own: TrainingProcess | None, ended: TrainingEnd | None, *, over: bool) -> str:
    finished = is_there(run.metrics_json)
    halted = "paused" if is_there(run.last) else "stopped"
    if own is None:
        return "finished" if finished else halted if owner(run.path) is None else "elsewhere"
    if ended is None:
        begun = "training" if run.config.exists() else "preparing"
        return "stopping" if own.stopping else "finishing" if finished or over else begun
    if finished:
        return "finished"
    return halted if ended.code in _INTERRUPTED else "failed"


def _steps_are_over(config: Config | None, curves: Curves) -> bool:
    steps = curves.columns.get("step", ())
    return config is not None and bool(steps) and steps[-1] >= (config.budget.steps or float("inf"))


def _config(run: RunDirectory) -> Config | None:
    try:
        return config_from_yaml(run.config) if run.config.exists() else None
    except StriateError:
        return None


def _facts(config: Config | None) -> Mapping[str, Any]:
    if config is None:
        return dict.fromkeys(("data", "model", "epochs", "steps", "batch", "lr", "optimizer"))
    return {
        "data": Path(config.data.source).name,
        "model": config.model.name,
        "epochs": config.budget.epochs,
        "steps": config.budget.steps or config.task.control.steps,
        "batch": config.batch,
        "lr": config.optim.lr,
        "optimizer": config.optim.name,
    }


def _followed(curves: Curves) -> dict[str, Any] | None:
    keys = [name.removeprefix("val_") for name in curves.columns if name.startswith("val_")]
    key = next((metric.key for metric in known_metrics() if metric.key in keys and metric.key != LOSS.key), None)
    if key is None:
        return None
    metric = metric_named(key, keys)
    return {"key": key, "name": metric.name, "is_share": metric.is_share}


def _curves(run: RunDirectory, config: Config | None) -> Curves:
    curves = read_curves(run, 0)
    # Guessing has a known loss only with one class a sample and the task's own loss.
    known = "train_accuracy" in curves.columns and config is not None and config.task.loss == "auto"
    return replace(curves, classes=_classes(run)) if known else curves


def _classes(run: RunDirectory) -> int:
    return len((read_verified(run.classes) or b"").splitlines())


def _findings(curves: Curves, data: str, *, over: bool) -> list[dict[str, Any]]:
    """The findings of the check before training, and of the curves so far; each code once."""
    records = [
        {name: value for name, value in event.items() if name not in ("time", "event")}
        for event in curves.events
        if event["event"] == "finding"
    ]
    known = {one.get("code") for one in records}
    if not over:
        known.add(TOO_SHORT)  # a running training is expected to be still learning
    seen = (finding for finding in curve_findings(curves) if finding.code not in known)
    return records + [finding.to_json() | {"remedy": _on_the_page(finding.remedy, data)} for finding in seen]


def _on_the_page(remedy: str, data: str) -> str:
    return remedy.for_page(LABELS, data) if isinstance(remedy, Remedy) else remedy
