"""A Parquet file that grows by parts: what is in a part is never computed again, whenever the process is killed.

Parts lie in a folder beside the file, each whole or not there. In the end they are joined into the file, which replaces
an earlier one in one step, and only then they are removed. Parts of a process that was killed in between are recognized
by their paths, which are in the file already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from striate.api.predictions_file.table import KEY, Table, arrow, as_table, common_schema, fitted
from striate.errors import RunError, UsageError, pasted
from striate.runs.directory import LOCK
from striate.runs.files import TEMPORARY, explained, write_atomic
from striate.runs.lock import owned_file

_ABOUT, _PART = "about.json", "{:06d}.parquet"
_ROWS_AT_ONCE = 10_000


@dataclass
class Parts:
    """The parts of a Parquet file of predictions."""

    file: Path
    """The Parquet file into which the parts are joined."""
    about: Mapping[str, Any]
    """What the predictions depend on, as plain values: network, files of its weights, options."""
    paths: set[str] = field(default_factory=set)
    """The files that have rows."""
    rows: int = 0
    """Number of rows in the file and its parts."""
    unreadable: int = 0
    """Number of rows with an error."""
    count: int = 0
    """Number of the latest part, from 1; 0 before the first one."""

    @property
    def folder(self) -> Path:
        """Where the parts are, until they are joined."""
        return self.file.with_name(f"{self.file.name}.parts")

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write one more part, all lines of a file in the same one. Raises RunError."""
        if not lines:
            return
        _, pq = arrow()
        table = as_table(lines)
        self.count += 1
        write_atomic(self.folder / _PART.format(self.count), lambda out: pq.write_table(table, out))
        self._note(table)

    def join(self) -> None:
        """Write the file, from what was in it and all parts, and remove these; it stays where there are none. Raises
        RunError."""
        _, pq = arrow()
        if not self._files():
            return
        files = [*([self.file] if self.file.exists() else []), *self._files()]
        schema = common_schema(map(pq.read_schema, files), self._said())

        def write(out: Any) -> None:
            with pq.ParquetWriter(out, schema) as writer:
                for table in (table for file in files for table in _tables(file)):
                    writer.write_table(fitted(table, schema))

        write_atomic(self.file, write)
        for part in self._files():
            part.unlink()

    def _said(self) -> bytes:
        return json.dumps(dict(self.about), sort_keys=True).encode()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def read(self) -> None:
        """Note what is there. Raises UsageError for a file or parts that are of something else."""
        _, pq = arrow()
        if self.file.exists():
            self._require(_kept(self.file), self.file)
            for table in _tables(self.file):
                self._note(table)
        about = self.folder / _ABOUT
        if about.exists():
            self._require(about.read_bytes(), self.folder)
        else:
            write_atomic(about, lambda out: out.write(self._said()))
        for part in self._files():
            self.count = int(part.stem)
            table = pq.read_table(part)
            if self.paths.issuperset(table.column("path").to_pylist()):  # joined by a process that was killed then
                part.unlink()
            else:
                self._note(table)

    def _note(self, table: Table) -> None:
        self.paths.update(table.column("path").to_pylist())
        self.rows += table.num_rows
        if "error" in table.column_names:
            self.unreadable += table.num_rows - table.column("error").null_count

    def _require(self, found: bytes | None, place: Path) -> None:
        if found == self._said():
            return
        got = f"{place}, which exists" if found is None else f"{place}, which is of another network or other options"
        new = self.file.with_name(f"{self.file.stem}-new.parquet")
        raise UsageError("--out", got, "a new file, or one of the same run and options", f"--out {pasted(new)}")

    def clear(self) -> None:
        """Remove the folder, unless there are parts in it."""
        if not self._files():
            for left in (self.folder / _ABOUT, self.folder / LOCK, *self.folder.glob(TEMPORARY)):
                left.unlink(missing_ok=True)
            with suppress(OSError):  # a file of somebody else is in it
                self.folder.rmdir()


@contextmanager
def opened_parts(file: Path, about: Mapping[str, Any]) -> Iterator[Parts]:
    """The parts of a Parquet file, read as far as they are there; one process at a time has them.

    Raises UsageError for a file that is of something else, or where pyarrow is not installed; RunError where it cannot
    be written, or another process does.
    """
    arrow()
    parts = Parts(file, about)
    with explained(file):
        parts.folder.mkdir(exist_ok=True)

    def refused(process: str) -> RunError:
        got, remedy = f"a file that {process} is writing", "wait for it, or end it first; then call this again"
        return RunError(str(file), got, "one process at a time", remedy)

    with owned_file(parts.folder / LOCK, refused):
        try:
            with explained(file):
                parts.read()
            yield parts
        finally:
            parts.clear()


def _kept(file: Path) -> bytes | None:
    """What a file says that its predictions are of; None for one of another program, or one that is no Parquet."""
    pa, pq = arrow()
    try:
        return (pq.read_schema(file).metadata or {}).get(KEY)
    except (pa.ArrowException, OSError):
        return None


def _tables(file: Path) -> Iterator[Table]:
    pa, pq = arrow()
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(_ROWS_AT_ONCE):
            yield pa.Table.from_batches([batch])
