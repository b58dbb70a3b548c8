"""The samples of a run by split and class, as its split.csv has them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, RunError, pasted
from striate.lab.images import RUN
from striate.runs.directory import RunDirectory, open_run

if TYPE_CHECKING:
    from striate.data.listing import Listing
    from striate.lab.workbench import Lab

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Samples:
    """All samples of a run, by id: the position in its data's listing. `splits` and `labels` (N,) texts; `classes` in
    the order of class numbers, empty where samples have none."""

    run: RunDirectory
    listing: Listing
    splits: NDArray[np.str_]
    labels: NDArray[np.str_]
    classes: tuple[str, ...]

    def of_split(self, split: str) -> NDArray[np.int64]:
        """The ids of a split, ascending. Raises DataError for one that is not there."""
        found = np.flatnonzero(self.splits == split)
        if not len(found):
            raise DataError("split", repr(split[:40]), f"one of: {', '.join(self.counts())}", "test")
        return found

    def counts(self) -> dict[str, int]:
        """How many samples each split has, of those with any."""
        numbers = {split: int((self.splits == split).sum()) for split in SPLITS}
        return {split: n for split, n in numbers.items() if n}

    def class_counts(self, split: str) -> list[int]:
        """How many samples of a split each class has."""
        labels = self.labels[self.splits == split]
        return [int((labels == name).sum()) for name in self.classes]


def read_samples(lab: Lab) -> Samples:
    """The samples of the run that the lab was opened with.

    Raises RunError without a run, DataError where its data are no images, not there, or no longer what they were.
    """
    if lab.run is None:
        got, remedy = "a lab without a run", "end it, and open one: striate lab RUN"
        raise RunError("explore", got, "the run whose data and answers are to be explored", remedy)
    run = open_run(lab.run)
    listing = lab.images.listing(RUN)
    rows = _read_rows(run.split)
    some = range(0, len(rows), max(1, len(rows) // 1000))
    changed = len(rows) != len(listing) or any(rows[k][0] != listing.paths[k] for k in some)
    if changed:
        raise DataError(
            listing.source,
            f"{len(listing):,} samples, not the {len(rows):,} of {run.split.name}, or others",
            "the data that the run was trained on",
            f"put the files back, or see how it does on them: striate eval {pasted(run.path)} {pasted(listing.source)}",
        )
    columns: Sequence[NDArray[np.str_]] = [np.array([row[k] for row in rows]) for k in (1, 2)]
    return Samples(run, listing, columns[1], columns[0], listing.classes if listing.has_one_class_each else ())


def _read_rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            _, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(
            str(path), f"it cannot be read: {error}", "the table that training wrote", "train again"
        ) from None
    if any(len(row) != 3 for row in rows):
        raise RunError(str(path), "rows without path, label and split", "the table that training wrote", "train again")
    return rows
