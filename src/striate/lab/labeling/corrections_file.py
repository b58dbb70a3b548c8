"""The table of corrected labels beside a run: `labels.csv`, which `striate train --labels` lays over untouched data."""

from __future__ import annotations

import csv
import threading
from io import StringIO
from pathlib import Path

from striate.data.listing import is_class_name
from striate.data.sources.corrections import read_labels
from striate.errors import DataError
from striate.runs.files import write_text
from striate.runs.plain_files import is_there

NAME = "labels.csv"


class CorrectionsFile:
    """The table at `path`; where it is not there yet, it begins with the rows of `earlier`, the table that the run was
    trained with. Each change is written at once, and whole: a reader finds the table of before or of after."""

    def __init__(self, path: Path, earlier: Path | None = None) -> None:
        self.path, self._earlier = path, earlier
        self._lock = threading.Lock()
        self._before: list[tuple[str, str | None]] = []

    def labels(self) -> dict[str, str]:
        """The labels by path; an empty one leaves the sample out. Raises DataError for what is no such table."""
        if is_there(self.path):
            return read_labels(self.path)
        return {} if self._earlier is None else read_labels(self._earlier)

    def set(self, path: str, label: str) -> None:
        """Give the sample a label; an empty one leaves it out. Raises DataError for a name that no class can have, and
        for a path that no table can hold; RunError where nothing can be written."""
        if label and not is_class_name(label):
            remedy = "write letters, digits and spaces on one line"
            raise DataError("the class", repr(label[:80]), "a name on one line, without control characters", remedy)
        if path != path.strip() or not path.isprintable():
            expected = "a path of printed characters, with no space at its ends"
            raise DataError("the path", repr(path[:80]), expected, "rename the file, and train again")
        with self._lock:
            labels = self.labels()
            self._before.append((path, labels.get(path)))
            self._write(labels | {path: label})

    def undo(self) -> str | None:
        """Take back the latest change of this lab; the path of its sample, None where there is none."""
        with self._lock:
            if not self._before:
                return None
            path, before = self._before.pop()
            labels = self.labels()
            labels.pop(path, None)
            self._write(labels if before is None else labels | {path: before})
            return path

    def _write(self, labels: dict[str, str]) -> None:
        text = StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["path", "label"])
        rows.writerows(sorted(labels.items()))
        write_text(self.path, text.getvalue())
