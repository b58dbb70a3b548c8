"""Downloads of named sets from their official places, with checksums."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from striate.data.sources.named import DatasetInfo, RemoteFile
from striate.errors import DataError
from striate.wording import several

TIMEOUT_SECONDS = 30


def download(entry: DatasetInfo, folder: Path, *, announce: Callable[[str], None] | None = None) -> Path:
    """Download the files of a named set into `folder`/its name. Returns that folder, or the only archive in it.

    `announce` is called with a line of text at the start, and after every tenth of the bytes. A file is written under a
    temporary name, and renamed when its SHA-256 is right; existing files are not downloaded again. Raises DataError,
    which names every file, its address and the place to put it.
    """
    target = folder / entry.name
    count = _tenths(entry, target, announce) if announce else lambda _: None
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in entry.files:
            if (target / file.name).exists():
                count(file.size)
            else:
                _fetch(file, target, count)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _by_hand(entry, target, _why(error)) from None
    return target / entry.files[0].name if len(entry.files) == 1 else target


def _tenths(entry: DatasetInfo, target: Path, announce: Callable[[str], None]) -> Callable[[int], None]:
    """A function that counts bytes, and announces every tenth of the total."""
    announce(f"Downloading {entry.name} ({entry.size_bytes / 1e6:.0f} MB) to {target}")
    done = announced = 0

    def count(size: int) -> None:
        nonlocal done, announced
        done += size
        tenths = min(10, 10 * done // max(1, entry.size_bytes))
        if tenths > announced:
            announced = tenths
            announce(f"Downloading {entry.name}: {10 * announced} % of {entry.size_bytes / 1e6:.0f} MB")

    return count


def _fetch(file: RemoteFile, target: Path, count: Callable[[int], None]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=target)
    digest, done = hashlib.sha256(), 0
    try:
        with os.fdopen(handle, "wb") as out, urllib.request.urlopen(file.url, timeout=TIMEOUT_SECONDS) as source:
            while block := source.read(1 << 18):
                done += len(block)
                if done > 2 * file.size:  # the SHA-256 decides; the size only limits the download
                    break
                digest.update(block)
                out.write(block)
                count(len(block))
        if digest.hexdigest() != file.sha256:
            got = f"{several(done, 'byte')} with SHA-256 {digest.hexdigest()}"
            raise ValueError(f"{file.url} gave {got}, expected SHA-256 {file.sha256}")
        Path(name).chmod(0o644)
        Path(name).replace(target / file.name)
    finally:
        Path(name).unlink(missing_ok=True)


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.url} answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__


def _by_hand(entry: DatasetInfo, target: Path, why: str) -> DataError:
    files = "; ".join(f"{file.name} ({several(file.size, 'byte')}) from {file.url}" for file in entry.files)
    return DataError(
        f"data {entry.name}",
        f"it is not on this machine and could not be downloaded: {why}",
        f"in {target}: {files}",
        f"mkdir -p '{target}' and put these files there, or set STRIATE_DATA to the folder that contains them in"
        f" {entry.name}/",
    )
