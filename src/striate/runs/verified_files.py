"""Reads files of a run and checks them against the SHA-256 that events.jsonl has of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from striate.errors import RunError, pasted
from striate.runs.files import complete_lines
from striate.runs.plain_files import is_there, read_bytes

_KINDS = ('"files"', '"finished"', '"resumed"')


def recorded_digests(run: Path) -> dict[str, str]:
    """Path within the run to digest, as last recorded. Digests recorded at the end of a training count until the run is
    resumed and writes these files again. Lines that are not events are skipped. Raises RunError."""
    first: dict[str, str] = {}
    later: dict[str, str] | None = None  # recorded since the run ended
    for line in complete_lines(run / "events.jsonl"):
        if not any(word in line for word in _KINDS):
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        kind = event.get("event") if isinstance(event, dict) else None
        if kind == "finished":
            later = later or {}
        elif kind == "resumed":
            later = None
        elif kind == "files" and isinstance(event.get("sha256"), dict):
            (first if later is None else later).update(event["sha256"])
    return first | (later or {})


def read_verified(path: Path) -> bytes | None:
    """The content of a file of a run; None where the file is missing and was never recorded. Raises RunError where it
    has changed, or has disappeared."""
    content = read_bytes(path) if is_there(path) else None
    noted = recorded_digests(path.parent).get(path.name)
    if noted is None or (content is not None and hashlib.sha256(content).hexdigest() == noted):
        return content
    raise RunError(
        str(path),
        "a file that is missing" if content is None else "a file that has changed",
        "the file as the run wrote it",
        f"check what else has changed: striate verify {pasted(path.parent)}; restore the file from a copy",
    )


def read_verified_json(path: Path) -> Any:
    """The value of a JSON file that a run does not need; None where it is missing, or damaged without having been
    recorded. Raises RunError where it has changed."""
    try:
        return json.loads((read_verified(path) if is_there(path) else None) or b"")
    except RunError:
        raise
    except (OSError, ValueError, RecursionError):
        return None
