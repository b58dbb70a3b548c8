"""The cache folder, and the plans in it: of training (`training/plan/`) and of inference (`inference/`).

The key of a plan is everything that it depends on: network, shapes, machine, versions. A plan is never needed: an
unreadable one counts as missing, and where nothing can be written nothing is cached.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_folder() -> Path | None:
    """`$STRIATE_CACHE`, else `striate` in `$XDG_CACHE_HOME` (an absolute path) or in ~/.cache; it may not exist yet.

    None for a user without a home: in a folder of all users, files may be somebody else's.
    """
    try:
        shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if own := os.environ.get("STRIATE_CACHE"):
            folder = Path(own).expanduser()
        else:
            folder = (shared if shared.is_absolute() else Path.home() / ".cache") / "striate"
        folder.exists()
    except (RuntimeError, OSError):  # `~` of an unknown user, a name that no folder can have
        return None
    return folder


def read_plan(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """The plan saved as `kind` under `key` (plain values); None where there is none, or a damaged one."""
    file = _file(kind, key)
    if file is None:
        return None
    try:
        if not _is_mine(file):
            return None
        entry = json.loads(file.read_text(encoding="utf-8"))
        plan = entry["plan"] if entry["key"] == _plain(key) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # RecursionError: nested too deeply
        return None
    return plan if isinstance(plan, dict) else None


def save_plan(kind: str, key: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Save a plan (plain values) under its key. False where it could not be written."""
    file = _file(kind, key)
    if file is None:
        return False
    text = json.dumps({"key": _plain(key), "plan": _plain(plan)}, indent=1, allow_nan=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".tmp")
    except OSError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(temporary).replace(file)
    except OSError:
        with suppress(OSError):
            Path(temporary).unlink()
        return False
    return True


def _file(kind: str, key: Mapping[str, Any]) -> Path | None:
    folder = cache_folder()
    digest = hashlib.sha256(json.dumps(_plain(key), sort_keys=True).encode()).hexdigest()
    return None if folder is None else folder / "plans" / f"{kind}-{digest[:32]}.json"


def _is_mine(file: Path) -> bool:
    """Whether it is a plain file, since a pipe would block, and this user's or root's, since others may write there
    too."""
    status = file.lstat()
    mine = not hasattr(os, "geteuid") or status.st_uid in (os.geteuid(), 0)
    return stat.S_ISREG(status.st_mode) and mine


def _plain(value: Mapping[str, Any]) -> Any:
    """The value as JSON returns it: tuples become lists, keys become text."""
    return json.loads(json.dumps(value, allow_nan=False))
