"""Files of a run as they were written: read together with the SHA-256 that events.jsonl has of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from striate.errors import RunError, pasted
from striate.runs.files import whole_lines
from striate.runs.plain_files import is_there, read_bytes

_SAYS = ('"files"', '"finished"', '"resumed"')


def noted_digests(run: Path) -> dict[str, str]:
    """Path within the run to digest, as last written down. What was noted at the end of a training counts until the run
    goes on, and writes it again. Lines that are not events are passed over. Raises RunError."""
    first: dict[str, str] = {}
    later: dict[str, str] | None = None  # what was noted since the run has ended
    for line in whole_lines(run / "events.jsonl"):
        if not any(word in line for word in _SAYS):
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        told = event.get("event") if isinstance(event, dict) else None
        if told == "finished":
            later = later or {}
        elif told == "resumed":
            later = None
        elif told == "files" and isinstance(event.get("sha256"), dict):
            (first if later is None else later).update(event["sha256"])
    return first | (later or {})


def read_written(path: Path) -> bytes | None:
    """The content of a file of the run that it lies in; None where it is not there and was never noted.

    Raises RunError where it is not what was written, or is not there any more.
    """
    content = read_bytes(path) if is_there(path) else None
    noted = noted_digests(path.parent).get(path.name)
    if noted is None or (content is not None and hashlib.sha256(content).hexdigest() == noted):
        return content
    raise RunError(
        str(path),
        "a file that is missing" if content is None else "a file that has changed",
        "the file as the run wrote it",
        f"check what else has changed: striate verify {pasted(path.parent)}; restore the file from a copy",
    )


def read_written_json(path: Path) -> Any:
    """The value of a JSON file that a run does without; None where it is not there, or damaged in a run that noted
    nothing of it. Raises RunError where it is not what was written."""
    try:
        return json.loads((read_written(path) if is_there(path) else None) or b"")
    except RunError:
        raise
    except (OSError, ValueError, RecursionError):
        return None
