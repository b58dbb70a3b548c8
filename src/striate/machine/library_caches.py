"""Where libraries save files between runs: a private folder in striate's cache folder.

By default matplotlib writes into the home folder, and torch's compiler into a folder with a predictable name in the
temporary folder, from which it loads code.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from importlib import import_module
from pathlib import Path

from striate.machine.cache import cache_folder

_FOLDERS = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "CUDA_CACHE_PATH": "cuda",
}


def keep_caches_private() -> None:
    """Set the folders in this process' environment, unless the user has; call it before the libraries load."""
    unset = {name: folder for name, folder in _FOLDERS.items() if name not in os.environ}
    if unset:
        place = _private_folder()
        os.environ.update({name: str(place / folder) for name, folder in unset.items()})


def load_compiler() -> None:
    """Import torch's compiler so that its precompiled headers are saved in the same folder, if that is set: torch 2.13
    takes their place from the temporary folder while it is imported."""
    folder, before = os.environ.get("TORCHINDUCTOR_CACHE_DIR"), tempfile.tempdir
    if folder is not None:
        tempfile.tempdir = folder
        try:
            import_module("torch._inductor.codecache")
        finally:
            tempfile.tempdir = before


def _private_folder() -> Path:
    """`libraries` in the cache folder, accessible only to this user; where that is impossible, a folder that is removed
    with the process."""
    cache = cache_folder()
    if cache is not None:
        folder = cache / "libraries"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_private(folder) and os.access(folder, os.W_OK):
                return folder
        except OSError:  # a file of that name, a disk that is read-only
            pass
    folder = Path(tempfile.mkdtemp(prefix="striate-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _is_private(folder: Path) -> bool:
    """Whether it is a folder, not a link, in which only this user may write."""
    status = folder.lstat()
    mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and mine and not status.st_mode & 0o022


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
