"""The checkpoint file: a dict of plain values and tensors, loadable with `weights_only=True`.

It is a zip archive, as torch writes it, with a CRC-32 of each part, which torch itself does not check. A run is resumed
from the last checkpoint, or from the one before where the last is damaged.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch.serialization import get_crc32_options, set_crc32_options

from striate.errors import RunError, pasted
from striate.runs.directory import RunDirectory, final_command
from striate.runs.events import append_event, cut_incomplete_line, read_events
from striate.runs.files import explained, temporary_file_for, write_atomic
from striate.runs.plain_files import folder_of, is_there, open_plain
from striate.runs.safe_load import HoldsCode, load_safely

FORMAT = 1
_ZIP = b"PK\x03\x04"  # torch's checkpoints are zip archives
_PIECE = 1 << 20  # bytes written at once


class Abandoned(Exception):
    """Writing a checkpoint was given up; the file is the one before."""


class _Pieces:
    """A file written in pieces, so that writing can be given up. It keeps the error of a full disk, whose cause torch
    drops."""

    def __init__(self, file: BinaryIO, given_up: Callable[[], bool]) -> None:
        self._file, self._given_up = file, given_up
        self.error: OSError | Abandoned | None = None

    def write(self, content: bytes | memoryview) -> int:
        if self.error is not None:  # torch still writes the end of the archive
            raise self.error
        try:
            for start in range(0, len(content), _PIECE):
                if self._given_up():
                    raise Abandoned
                write_piece(self._file, content[start : start + _PIECE])
        except (OSError, Abandoned) as error:
            self.error = error
            raise
        return len(content)

    def flush(self) -> None:
        self._file.flush()


def write_piece(file: BinaryIO, piece: bytes | memoryview) -> None:
    """Write a part of a checkpoint. Tests replace it, to slow it down or to simulate a full disk."""
    file.write(piece)


def never() -> bool:
    """False: writing is not given up."""
    return False


def save_checkpoint(path: Path, content: dict[str, Any], given_up: Callable[[], bool] = never) -> None:
    """Write atomically: after a crash the file is the old one or the new one. Raises RunError on a full disk; Abandoned
    when `given_up()` becomes true meanwhile."""
    write_atomic(path, lambda file: _write(file, content, given_up))


def replace_checkpoint(path: Path, before: Path, content: dict[str, Any], given_up: Callable[[], bool] = never) -> None:
    """Write `path`, and rename the one before to `before` once the new one is on disk and was read back intact.

    At any instant one of the two is intact. Raises RunError; Abandoned when `given_up()` becomes true meanwhile.
    """
    with explained(path), temporary_file_for(path, lambda file: _write(file, content, given_up)) as (folder, new):
        with os.fdopen(folder.open(new), "rb") as file:
            _check(file, path)
        with suppress(FileNotFoundError):
            folder.rename(path.name, before.name)
        folder.rename(new, path.name)
        folder.flush()


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without executing anything from it.

    Raises RunError where it is not a checkpoint of striate, or has changed since it was written.
    """
    check_archive(path)
    try:
        content = load_safely(path, device)
    except OSError as error:
        raise _refused(path, f"cannot read: {error.strerror or error}") from None
    except HoldsCode as error:
        raise _refused(path, str(error)) from None
    except (MemoryError, RuntimeError, pickle.UnpicklingError) as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise _refused(path, f"damaged, or not a checkpoint: {first}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or "model" not in content:
        raise _refused(path, "a file that is not from striate")
    return content


def check_archive(path: Path) -> None:
    """Read the file once. Raises RunError where a part has changed by its CRC-32, or where it is not a checkpoint of
    striate."""
    try:
        with open_plain(path) as file:
            _check(file, path)
    except OSError as error:
        raise _refused(path, f"cannot read: {error.strerror or error}") from None


def _check(file: BinaryIO, path: Path) -> None:
    if damage := _damage(file):
        raise _refused(path, damage)


def _damage(file: BinaryIO) -> str:
    """What is wrong with the archive; empty where nothing is."""
    if not (beginning := file.read(12)).startswith(_ZIP):
        return f"not a checkpoint: the file begins with {beginning!r}" if beginning else "an empty file"
    try:
        with zipfile.ZipFile(file) as archive:
            # torch compresses no part; a compressed one may be a zip bomb
            other = [p.filename for p in archive.infolist() if p.compress_type != zipfile.ZIP_STORED or p.external_attr]
            bad = other[0] if other else archive.testzip()
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, struct.error) as error:
        return f"damaged, or not a checkpoint: {error}"
    return "" if bad is None else f"damaged: {bad} has changed since it was written"


def _write(file: BinaryIO, content: dict[str, Any], given_up: Callable[[], bool]) -> None:
    computed, pieces = get_crc32_options(), _Pieces(file, given_up)
    try:
        set_crc32_options(True)
        torch.save({"format": FORMAT, **content}, cast("BinaryIO", pieces))
    except (RuntimeError, OSError, Abandoned):
        raise pieces.error or OSError("torch could not write it") from None
    finally:
        set_crc32_options(computed)


def _refused(path: Path, got: str) -> RunError:
    return RunError(str(path), got, "a checkpoint of striate", instead_of(path))


def instead_of(file: Path) -> str:
    """The remedy for a checkpoint that cannot be used: the other network of its run, if that is intact, and the command
    that trains the run again."""
    run = RunDirectory(file.parent.parent)
    if file.parent != run.last.parent or not is_there(run.config):
        return "use last.pt or best.pt of a run directory"
    anew = f"striate train --config {pasted(run.config)} --out {pasted(f'{run.path}-again')}"
    other, epoch = (run.best, "best") if file.name == run.last.name else (run.last, "last")
    use = f"use the network of the {epoch} epoch, {pasted(other)}; or " if _is_intact(other) else ""
    return f"{use}train it again from the start: {anew}"


def _is_intact(path: Path) -> bool:
    try:
        with open_plain(path) as file:
            return not _damage(file)
    except (OSError, RunError):
        return False


DAMAGED = ".damaged"
"""Suffix of a damaged checkpoint, so that the next one does not replace it."""


def recover_run(
    run: RunDirectory, announce: Callable[[str], None], refuse: Callable[[Path | None], None] = lambda _: None
) -> Path | None:
    """Prepare a run that may have crashed for being resumed. Returns the checkpoint to resume from; None where there is
    none yet.

    An incomplete last line of events.jsonl is cut off. A damaged last.pt is renamed, and the one before it is used;
    `announce` and events.jsonl get a line about it. Before anything changes, `refuse` may raise for that checkpoint.
    Only for the owner of the run. Raises RunError where every checkpoint is damaged.
    """
    read_events(run)  # reports other damage before the training, not after it
    there = [file for file in (run.last, run.previous) if is_there(file)]
    damages: list[str] = []
    for file in there:
        try:
            check_archive(file)
        except RunError as error:
            damages.append(f"{file.name}: {error.got}")
            continue
        refuse(file)
        _cut_torn_line(run)
        _set_aside(run, damages, there[: len(damages)], file, announce)
        return file
    if not there:
        refuse(None)
        _cut_torn_line(run)
        return None
    got = f"no intact checkpoint ({'; '.join(damages)})"
    raise RunError(str(run.last.parent), got, "an intact last.pt or previous.pt", instead_of(run.last))


def without_checkpoint(run: RunDirectory, file: Path) -> RunError:
    """The error where a checkpoint is missing: a cross-validation saves none, the run has none yet or, if it is
    finished, has lost it."""
    if is_there(run.folds):
        got = "a cross-validation, which saves no network, since each fold sees only part of the data"
        return RunError(str(run.path), got, "a run with a network", final_command(run.path))
    if not run.metrics_json.exists():
        remedy = f"striate train --resume {pasted(run.path)}"
        return RunError(str(run.path), "a run without a checkpoint yet", "a run with at least one epoch", remedy)
    remedy = f"put it back; or {instead_of(file)}"
    return RunError(str(file), "missing, though the run is finished", "the checkpoint of the run", remedy)


def _cut_torn_line(run: RunDirectory) -> None:
    if cut := cut_incomplete_line(run):
        append_event(run, "torn-line", bytes=cut)


def _set_aside(
    run: RunDirectory, damages: list[str], damaged: list[Path], used: Path, announce: Callable[[str], None]
) -> None:
    for file, why in zip(damaged, damages, strict=True):
        aside = file.with_name(file.name + DAMAGED)
        announce(f"{why}; continuing from the checkpoint before it, {used.name}; the damaged file is now {aside.name}")
        append_event(run, "damaged-checkpoint", file=file.name, reason=why, used=used.name)
        with explained(file), folder_of(file) as folder:
            folder.rename(file.name, aside.name)


@contextmanager
def fitting(checkpoint: Path) -> Iterator[None]:
    """Raises RunError where what is loaded within the context does not fit the run of this checkpoint."""
    try:
        yield
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            str(checkpoint),
            f"a checkpoint that does not fit: {reason}",
            "the checkpoint of this run",
            f"train again: striate train --config {pasted(RunDirectory(checkpoint.parents[1]).config)}",
        ) from None
