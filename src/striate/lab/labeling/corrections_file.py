"""The table of corrected labels beside a run: `labels.csv`, which `striate train --labels` applies; data stay as they
are."""

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
    """The table at `path`; a new one begins with the rows of `earlier`, the table that the run was trained with. Each
    change is written at once and atomically."""

    def __init__(self, path: Path, earlier: Path | None = None) -> None:
        self.path, self._earlier = path, earlier
        self._lock = threading.Lock()
        self._changed: list[str] = []

    def labels(self) -> dict[str, str]:
        """The labels by path; an empty label leaves the sample out. Raises DataError for a file that is not such a
        table."""
        if is_there(self.path):
            return read_labels(self.path)
        return {} if self._earlier is None else read_labels(self._earlier)

    def set(self, path: str, label: str) -> str | None:
        """Give the sample a label; an empty one leaves it out. If the table has a label of the sample already, from
        another page, that label stays and is returned. Raises DataError for a name that no class can have, and for a
        path that no table can hold; RunError where nothing can be written."""
        if label and not is_class_name(label):
            remedy = "write letters, digits and spaces on one line"
            raise DataError("the class", repr(label[:80]), "a name on one line, without control characters", remedy)
        if path != path.strip() or not path.isprintable():
            expected = "a path of printed characters, with no space at its ends"
            raise DataError("the path", repr(path[:80]), expected, "rename the file, and train again")
        with self._lock:
            labels = self.labels()
            if path in labels:
                return labels[path]
            self._changed.append(path)
            self._write(labels | {path: label})
            return None

    def undo(self, path: str | None = None) -> str | None:
        """Undo this lab's decision on the sample, or its latest one; the path of the sample, None without a
        decision."""
        with self._lock:
            path = path or (self._changed[-1] if self._changed else None)
            if path is None or path not in self._changed:
                return None
            self._changed.remove(path)
            labels = self.labels()
            labels.pop(path, None)
            self._write(labels)
            return path

    def _write(self, labels: dict[str, str]) -> None:
        text = StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["path", "label"])
        rows.writerows(sorted(labels.items()))
        write_text(self.path, text.getvalue())
