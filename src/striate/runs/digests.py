"""SHA-256 of the files of a run that do not change any more, written to events.jsonl as the event `files`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from striate.runs.directory import LOCK, RunDirectory
from striate.runs.events import append_event, read_events
from striate.runs.files import TEMPORARY, explained


def note_files(run: RunDirectory, files: Iterable[Path]) -> None:
    """Write down what these files hold. Raises RunError."""
    digests = {path.relative_to(run.path).as_posix(): file_digest(path) for path in files}
    if digests:
        append_event(run, "files", sha256=digests)


def note_finished(run: RunDirectory) -> None:
    """Write down what all files hold that were not noted before, once nothing is written any more but events."""
    known = noted_files(run)
    kept = (run.path / LOCK, run.events)
    found = sorted(path for path in run.path.rglob("*") if path.is_file() and path not in kept)
    new = [path for path in found if not path.match(TEMPORARY) and path.relative_to(run.path).as_posix() not in known]
    note_files(run, new)


def noted_files(run: RunDirectory) -> dict[str, str]:
    """Path within the run to digest, as last written down. Raises RunError where events.jsonl is damaged."""
    noted: dict[str, str] = {}
    for event in read_events(run):
        if event["event"] == "files" and isinstance(event.get("sha256"), dict):
            noted |= event["sha256"]
    return noted


def file_digest(path: Path) -> str:
    """SHA-256 in hexadecimal digits. Raises RunError."""
    with explained(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
