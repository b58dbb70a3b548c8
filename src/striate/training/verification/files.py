"""The files of a run: whether each is as it was written, and whether they agree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from striate.errors import RunError
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory, csv_of
from striate.runs.events import file_digest, noted_files, read_events
from striate.runs.files import complete_lines
from striate.runs.plain_files import is_there, read_bytes, read_text
from striate.training.events import EpochRow
from striate.training.first_files import config_changes
from striate.training.rewards.player import learned_from_rewards
from striate.wording import several


@dataclass(frozen=True)
class FileCheck:
    """One file of a run."""

    name: str
    """Its path in the run."""
    intact: bool
    """Whether it is as it was written."""
    message: str = ""
    """What is wrong or notable; else empty."""


def check_files(run: RunDirectory) -> tuple[FileCheck, ...]:
    """Every file that the run has, or should have. Nothing is written."""
    last = read_last(run)
    found: dict[str, FileCheck] = {}
    tables = (_metrics_csv(run, last), _metrics_json(run, last))
    for check in (*_checkpoints(run), _events(run), *_config(run, last), *tables, *_noted(run)):
        if check.name not in found or found[check.name].intact > check.intact:
            found[check.name] = check
    return tuple(found.values())


def read_last(run: RunDirectory) -> dict[str, Any] | None:
    """The content of last.pt; None where it is damaged or missing."""
    try:
        return load_checkpoint(run.last)
    except RunError:
        return None


def _checkpoints(run: RunDirectory) -> Iterator[FileCheck]:
    for file in (run.last, run.previous, run.best):
        name = f"checkpoints/{file.name}"
        if not is_there(file):
            if file == run.last:
                yield FileCheck(name, False, "it is missing")
            continue
        try:
            content = load_checkpoint(file)
            yield FileCheck(name, True, f"step {_step(content):,}")
        except RunError as error:
            yield FileCheck(name, False, error.got)


def _events(run: RunDirectory) -> FileCheck:
    try:
        kinds = {event["event"] for event in read_events(run)}
        content = read_bytes(run.events) if is_there(run.events) else b""
    except RunError as error:
        reason = f"{error.where.rpartition(', ')[2]}: {error.got}" if "line" in error.where else error.got
        return FileCheck("events.jsonl", False, reason)
    if is_there(run.metrics_json) and "finished" not in kinds:
        return FileCheck("events.jsonl", False, "it lacks the end of the run, with the digests of its files")
    torn = content and not content.endswith(b"\n")
    return FileCheck("events.jsonl", True, "a crash left its last line incomplete; --resume removes it" if torn else "")


def _config(run: RunDirectory, last: dict[str, Any] | None) -> Iterator[FileCheck]:
    """For a run in progress, whether it would be resumed with the same configuration; `_noted` checks that of a
    finished run."""
    if not run.metrics_json.exists():
        with suppress(RunError):  # about events.jsonl, which has its own check
            changes = config_changes(run, None if last is None else last.get("config"))
            yield FileCheck(run.config.name, changes is None, changes or "")


def _metrics_csv(run: RunDirectory, last: dict[str, Any] | None) -> FileCheck:
    """Whether the rows are those of the checkpoint. Later rows may follow, which a resumed run writes again."""
    name = "metrics.csv"
    if last is None:
        return FileCheck(name, True, "not compared: there is no checkpoint")
    expected = _rows(last)
    try:
        found = complete_lines(run.metrics_csv)
    except RunError as error:
        return FileCheck(name, False, error.got)
    if found[: len(expected)] != expected:
        row = next((k for k, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), len(found))
        return FileCheck(name, False, f"line {row + 1} differs from the checkpoint")
    later = len(found) - max(1, len(expected))
    if later > 0 and run.metrics_json.exists():
        return FileCheck(name, False, f"{several(later, 'row')} more than in the checkpoint")
    return FileCheck(
        name, True, f"{several(later, 'row is', 'rows are')} newer than the checkpoint" if later > 0 else ""
    )


def _step(content: Mapping[str, Any]) -> int:
    """The step of a checkpoint; a training from rewards stores it with its learner."""
    return int(content["step"] if "step" in content else content["learner"]["step"])


def _rows(last: Mapping[str, Any]) -> list[str]:
    history = last["history"]
    rows = history if learned_from_rewards(last) else [EpochRow(**row).flat() for row in history]
    return csv_of(rows).splitlines()


def _metrics_json(run: RunDirectory, last: dict[str, Any] | None) -> FileCheck:
    name = "metrics.json"
    if not is_there(run.metrics_json):
        return FileCheck(name, True, "missing: the run is not finished")
    try:
        metrics = json.loads(read_text(run.metrics_json))
        lacks = [key for key in ("task", "model", "data", "steps", "train", "val") if key not in metrics]
    except RunError as error:
        return FileCheck(name, False, error.got)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return FileCheck(name, False, f"not JSON: {error}")
    if lacks:
        return FileCheck(name, False, f"without {', '.join(lacks)}")
    if last is not None and metrics["steps"] != _step(last):
        return FileCheck(name, False, f"it has {metrics['steps']} steps, the checkpoint {_step(last)}")
    return FileCheck(name, True)


def _noted(run: RunDirectory) -> Iterator[FileCheck]:
    """The files whose digests are in events.jsonl; checkpoints and tables are also checked above."""
    try:
        noted = noted_files(run)
    except RunError:
        return
    for name, digest in noted.items():
        path = run.path / name
        if len(path.parts) - len(run.path.parts) > 2 or ".." in path.parts or run.path not in path.parents:
            continue  # a path outside the run, from elsewhere
        if path == run.config and not is_there(run.metrics_json):
            continue
        try:
            same = is_there(path) and file_digest(path) == digest
            yield FileCheck(name, same, "" if same else "it has changed" if is_there(path) else "it is missing")
        except RunError as error:
            yield FileCheck(name, False, error.got)
