"""events.jsonl: what happened in a run, one JSON line per event, appended as it happens.

The event `files` holds the SHA-256 of files of the run that do not change any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from striate.errors import RunError, pasted
from striate.runs.directory import LOCK, RunDirectory
from striate.runs.files import TEMPORARY, append_text, complete_lines, explained, finite
from striate.runs.plain_files import is_there, open_for_update, open_plain
from striate.runs.verified_files import recorded_digests


def event_line(event: str, **fields: Any) -> str:
    """The line of an event that happens now."""
    record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **finite(fields)}
    return json.dumps(record, ensure_ascii=False) + "\n"


def append_event(run: RunDirectory, event: str, **fields: Any) -> None:
    """Append one line, in one write. Raises RunError."""
    append_text(run.events, event_line(event, **fields))


def read_events(run: RunDirectory) -> list[dict[str, Any]]:
    """All complete lines, without one that is being written or that a crash has cut short. Raises RunError where a line
    is not an event."""
    return [_event(run, number, line) for number, line in enumerate(complete_lines(run.events), 1)]


def read_notes(run: RunDirectory) -> tuple[str, ...]:
    """What was decided for the user at the start of the run, a sentence each."""
    return tuple(str(event.get("text", "")) for event in read_events(run) if event["event"] == "note")


def cut_incomplete_line(run: RunDirectory) -> int:
    """Cut off an incomplete last line, which a crash has left; returns its number of bytes. Raises RunError."""
    if not is_there(run.events):
        return 0
    with explained(run.events), open_for_update(run.events) as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
    return len(content) - whole


def _event(run: RunDirectory, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        raise RunError(
            f"{run.events}, line {number}",
            f"not an event: {line[:60]!r}",
            "a JSON object as striate wrote it",
            f"sed -i {number}d {pasted(run.events)}",
        )
    return value


def note_files(run: RunDirectory, files: Iterable[Path]) -> None:
    """Write the digests of these files into events.jsonl. Raises RunError."""
    digests = {path.relative_to(run.path).as_posix(): file_digest(path) for path in files}
    if digests:
        append_event(run, "files", sha256=digests)


def note_finished(run: RunDirectory) -> None:
    """Write the digests of all files that have none yet, once nothing but events is written any more."""
    known = noted_files(run)
    growing = (run.path / LOCK, run.events)
    found = sorted(
        path for path in run.path.rglob("*") if path.is_file() and not path.is_symlink() and path not in growing
    )
    new = [path for path in found if not path.match(TEMPORARY) and path.relative_to(run.path).as_posix() not in known]
    note_files(run, new)


def noted_files(run: RunDirectory) -> dict[str, str]:
    """Like `recorded_digests`. Raises RunError where events.jsonl is damaged."""
    read_events(run)
    return recorded_digests(run.path)


def already_finished(run: RunDirectory) -> str:
    """The note for a run that needs no training, and whose checkpoints can be loaded; it names those that are no longer
    the files that the run wrote."""
    digests = recorded_digests(run.path)
    changed = [
        file.name
        for file in (run.last, run.best)
        if (digest := digests.get(f"{file.parent.name}/{file.name}")) is not None and file_digest(file) != digest
    ]
    note = f"{run.path} is already finished, so nothing is trained; its checkpoints "
    if changed:
        return f"{note}can be read, but {' and '.join(changed)} changed since: striate verify {pasted(run.path)}"
    return f"{note}are intact"


def text_digest(text: str) -> str:
    """SHA-256 of the file that `write_text` makes of the text."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 in hexadecimal digits. Raises RunError."""
    with explained(path), open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
