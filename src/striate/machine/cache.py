"""Where plans and packs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """`$STRIATE_CACHE`, else `striate` in `$XDG_CACHE_HOME` (an absolute path) or in ~/.cache; need not exist.

    None for a user without a home: what lies in a folder of all users may be somebody else's.
    """
    try:
        shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if own := os.environ.get("STRIATE_CACHE"):
            folder = Path(own).expanduser()
        else:
            folder = (shared if shared.is_absolute() else Path.home() / ".cache") / "striate"
        folder.exists()
    except (RuntimeError, OSError):  # `~` of nobody who is known here, a name that no folder can have
        return None
    return folder
