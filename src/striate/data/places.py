"""Folders that named data sets are looked for in and downloaded to."""

from __future__ import annotations

import os
from pathlib import Path

from striate.errors import DataError

# Where Debian's package dataset-fashion-mnist installs.
_DEBIAN = Path("/usr/share/datasets")


def download_folder() -> Path:
    """Where downloads go: $STRIATE_DATA if it is set and can be written to, else ~/.cache/striate/data.

    Raises DataError for a user without a home.
    """
    chosen = os.environ.get("STRIATE_DATA")
    if chosen and os.access(chosen, os.W_OK):
        return Path(chosen)
    for folder in _home_folders():
        return folder
    where = "a folder that can be written to, named by STRIATE_DATA"
    raise DataError("downloads", "no home folder to put them into", where, "export STRIATE_DATA=$PWD")


def data_folders() -> tuple[Path, ...]:
    """Where named sets are looked for, in this order."""
    chosen = os.environ.get("STRIATE_DATA")
    own = (Path(chosen),) if chosen else ()
    return (*own, *_home_folders(), _DEBIAN)


def _home_folders() -> tuple[Path, ...]:
    try:
        return (Path.home() / ".cache" / "striate" / "data",)
    except RuntimeError:  # a user without a home
        return ()
