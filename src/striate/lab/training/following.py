"""What is known of a run while it trains, from its own files."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from striate.doctor.own.curves import Curves, curve_findings, read_curves
from striate.errors import StriateError
from striate.lab.problems import LABELS
from striate.lab.training.process import Ended, TrainingProcess
from striate.records import Remedy
from striate.runs.directory import RunDirectory
from striate.runs.files import read_dispensable
from striate.runs.lock import owner
from striate.runs.watching import ask_to_watch, read_look
from striate.training.config import Config
from striate.training.config_file import config_from_yaml

_KEPT = 60
_OF_THE_END = "fit.underfit"  # that it still learned says nothing while it does
_INTERRUPTED = (130, -2, -15)  # exit codes: as striate ends, and as Python ends before it trains


class KeptLooks:
    """Looks at runs, kept so that one can go back: the first one, and others evenly spread over the steps."""

    def __init__(self) -> None:
        self._of: dict[Path, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def add(self, run: Path, look: dict[str, Any]) -> None:
        """Keep a look that is newer than those before; where it is older, the run has begun anew."""
        with self._lock:
            kept = self._of.setdefault(run, [])
            if kept and look["step"] < kept[-1]["step"]:
                kept.clear()
            if not kept or look["step"] > kept[-1]["step"]:
                kept.append({key: look.get(key) for key in ("step", "filters", "layers", "layers_step")})
            if len(kept) > _KEPT:
                del kept[1:-1:2]

    def steps(self, run: Path) -> list[int]:
        """The steps that looks are kept of."""
        with self._lock:
            return [look["step"] for look in self._of.get(run, ())]

    def at(self, run: Path, step: int) -> dict[str, Any] | None:
        """The look nearest to a step."""
        with self._lock:
            return min(self._of.get(run, ()), key=lambda look: abs(look["step"] - step), default=None)


def follow(run: RunDirectory, own: TrainingProcess | None, kept: KeptLooks, epochs_known: int) -> dict[str, Any]:
    """The record of a run now. Asks a training that goes on for looks.

    `state`: `preparing training finishing stopping paused stopped finished failed`, or `elsewhere` for a training that
    this lab has not started; `stopped` is before there was anything to save. `own`: whether this lab trains it. `data
    model epochs steps batch lr optimizer` are as decided, `rows` those of metrics.csv after the first `epochs_known`.
    `saved_step`: where it was last paused. `look`: as in `training/snapshots.py`; `looks`: the steps of those that are
    kept. `notes`, `findings`; `result` (metrics.json); `said` by the process, and its `refusal`, an error as a record.
    """
    ended = None if own is None else own.ended()  # first: who has ended has written all of its files
    config, curves = _config(run), _curves(run)
    state = _state(run, own, ended, over=_steps_are_over(config, curves))
    if state in ("training", "elsewhere"):
        ask_to_watch(run)
    look = None if config is None else read_look(run)
    if look is not None and isinstance(look.get("step"), int):
        kept.add(run.path, look)
    rows = [dict(zip(curves.columns, row, strict=True)) for row in zip(*curves.columns.values(), strict=True)]
    return {
        "state": state,
        "own": own is not None,
        "path": str(run.path),
        **_facts(config),
        "rows": rows[epochs_known:],
        "epochs_done": len(rows),
        "saved_step": _saved_step(curves),
        "look": look,
        "looks": kept.steps(run.path),
        "notes": [str(event.get("text", "")) for event in curves.events if event["event"] == "note"],
        "findings": _findings(curves, "DATA" if config is None else config.data.source, over=state == "finished"),
        "result": read_dispensable(run.metrics_json) if state == "finished" else None,
        "said": [] if own is None else list(own.said()),
        "refusal": None if ended is None or ended.error is None else ended.error,
    }


def _saved_step(curves: Curves) -> int:
    """The step at which the run was last saved to go on, or went on; 0 where it was never interrupted."""
    pauses = (event.get("step") for event in reversed(curves.events) if event["event"] in ("interrupted", "resumed"))
    step = next(pauses, 0)
    return step if isinstance(step, int) else 0


def _state(run: RunDirectory, own: TrainingProcess | None, ended: Ended | None, *, over: bool) -> str:
    finished = run.metrics_json.exists()
    if own is None:
        return "finished" if finished else "paused" if owner(run.path) is None else "elsewhere"
    if ended is None:
        begun = "training" if run.config.exists() else "preparing"
        return "stopping" if own.stopping else "finishing" if finished or over else begun
    if finished:
        return "finished"
    interrupted = ended.code in _INTERRUPTED
    return ("paused" if run.config.exists() else "stopped") if interrupted else "failed"


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
        "steps": config.budget.steps,
        "batch": config.batch,
        "lr": config.optim.lr,
        "optimizer": config.optim.name,
    }


def _curves(run: RunDirectory) -> Curves:
    try:
        curves = read_curves(run, 0)
    except StriateError:
        return Curves({}, (), 0)
    # Guessing has a known loss only where each sample has one class.
    return replace(curves, classes=_classes(run)) if "train_accuracy" in curves.columns else curves


def _classes(run: RunDirectory) -> int:
    try:
        return len(run.classes.read_text(encoding="utf-8").splitlines())
    except OSError:
        return 0


def _findings(curves: Curves, data: str, *, over: bool) -> list[dict[str, Any]]:
    """What the look before training found, and what the curves say so far; each code once."""
    told = [
        {name: value for name, value in event.items() if name not in ("time", "event")}
        for event in curves.events
        if event["event"] == "finding"
    ]
    known = {one.get("code") for one in told} | (set() if over else {_OF_THE_END})
    seen = (finding for finding in curve_findings(curves) if finding.code not in known)
    return told + [finding.to_json() | {"remedy": _on_the_page(finding.remedy, data)} for finding in seen]


def _on_the_page(remedy: str, data: str) -> str:
    return remedy.for_page(LABELS, data) if isinstance(remedy, Remedy) else remedy
