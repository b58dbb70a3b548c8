"""A Parquet file that is written in parts: predictions in a part are not computed again after the process is killed.

Parts lie in a folder beside the file; each is written atomically. In the end they are joined into the file, which
replaces an earlier one atomically, and then they are removed. Parts that a killed process has joined but not removed
are recognized by their paths, which the file has already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from striate.api.predictions_table.table import KEY, Table, arrow, as_table, common_schema, fitted
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
        """The folder of the parts, until they are joined."""
        return self.file.with_name(f"{self.file.name}.parts")

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write one more part; `lines` have all lines of each of their files. Raises RunError."""
        if not lines:
            return
        _, pq = arrow()
        table = as_table(lines)
        self.count += 1
        write_atomic(self.folder / _PART.format(self.count), lambda out: pq.write_table(table, out))
        self._note(table)

    def join(self) -> None:
        """Join the file and all parts into the new file, and remove the parts; without parts the file stays as it is.
        Raises RunError."""
        _, pq = arrow()
        if not self._files():
            return
        files = [*([self.file] if self.file.exists() else []), *self._files()]
        schema = common_schema(map(pq.read_schema, files), self._metadata())

        def write(out: Any) -> None:
            with pq.ParquetWriter(out, schema) as writer:
                for table in (table for file in files for table in _tables(file)):
                    writer.write_table(fitted(table, schema))

        write_atomic(self.file, write)
        for part in self._files():
            part.unlink()

    def _metadata(self) -> bytes:
        return json.dumps(dict(self.about), sort_keys=True).encode()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def read(self) -> None:
        """Read which rows the file and its parts have. Raises UsageError where they are of another network or other
        options."""
        _, pq = arrow()
        if self.file.exists():
            self._require(_metadata_of(self.file), self.file)
            for table in _tables(self.file):
                self._note(table)
        about = self.folder / _ABOUT
        if about.exists():
            self._require(about.read_bytes(), self.folder)
        else:
            write_atomic(about, lambda out: out.write(self._metadata()))
        for part in self._files():
            self.count = int(part.stem)
            table = pq.read_table(part)
            if self.paths.issuperset(table.column("path").to_pylist()):  # joined by a process that was then killed
                part.unlink()
            else:
                self._note(table)

    def _note(self, table: Table) -> None:
        self.paths.update(table.column("path").to_pylist())
        self.rows += table.num_rows
        if "error" in table.column_names:
            self.unreadable += table.num_rows - table.column("error").null_count

    def _require(self, found: bytes | None, place: Path) -> None:
        if found == self._metadata():
            return
        got = f"{place}, which exists" if found is None else f"{place}, which is of another network or other options"
        new = self.file.with_name(f"{self.file.stem}-new.parquet")
        raise UsageError("--out", got, "a new file, or one of the same run and options", f"--out {pasted(new)}")

    def clear(self) -> None:
        """Remove the folder, unless there are parts in it."""
        if not self._files():
            for left in (self.folder / _ABOUT, self.folder / LOCK, *self.folder.glob(TEMPORARY)):
                left.unlink(missing_ok=True)
            with suppress(OSError):  # another program's file is in it
                self.folder.rmdir()


@contextmanager
def opened_parts(file: Path, about: Mapping[str, Any]) -> Iterator[Parts]:
    """The parts of a Parquet file, locked for this process; rows that exist are read.

    Raises UsageError for a file of another network or other options, or where pyarrow is not installed; RunError where
    it cannot be written, or another process writes it.
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


def _metadata_of(file: Path) -> bytes | None:
    """The metadata that striate wrote into a file; None for a file of another program, or one that is not Parquet."""
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
