"""The files of a cross-validation: one for each finished fold, and the tables made from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import RunError, pasted, reason_of
from striate.runs.directory import RunDirectory, csv_of, csv_text
from striate.runs.files import finite, write_atomic, write_text
from striate.runs.plain_files import open_plain
from striate.studies.cross_validation.fold import FoldResult
from striate.studies.cross_validation.fold_data import Pool
from striate.tasks.task import Task

FOLDERS = ("folds", "plots")
"""The folders in the directory of a cross-validation."""
_PLAIN = ("repeat", "fold", "seed", "n_train", "n_val", "best_epoch", "seconds", "metrics", "history", "baselines")


def cv_table(run: RunDirectory) -> Path:
    """`cv.csv`: one row per finished fold."""
    return run.path / "cv.csv"


def fold_file(run: RunDirectory, repeat: int, fold: int) -> Path:
    """The file of one finished fold; both count from 1."""
    return run.path / "folds" / f"{repeat}-{fold}.npz"


def save_fold(run: RunDirectory, result: FoldResult) -> None:
    """Write the fold's file atomically: a fold with a file is done. Raises RunError."""
    values = {name: getattr(result, name) for name in _PLAIN}
    # A float survives JSON bit for bit, so a resumed study ends like one that never stopped.
    text = np.array(json.dumps(values))

    write_atomic(
        fold_file(run, result.repeat, result.fold),
        lambda file: np.savez_compressed(file, values=text, ids=result.ids, decoded=result.decoded),
    )


def load_fold(path: Path) -> FoldResult:
    """Read a fold's file without executing anything from it. Raises RunError where it is damaged."""
    try:
        # numpy would leave a damaged file open, so it gets an open one.
        with open_plain(path) as opened, np.load(opened, allow_pickle=False) as file:
            values: dict[str, Any] = json.loads(str(file["values"]))
            values["history"] = tuple(values["history"])
            return FoldResult(**values, ids=file["ids"], decoded=file["decoded"])
    except RunError:
        raise
    # numpy, zip and JSON each have errors of their own for a damaged file.
    except Exception as error:
        remedy = f"rm {pasted(path)} && striate train --resume {pasted(path.parent.parent)}"
        raise RunError(
            str(path), f"no finished fold: {reason_of(error)}", "the file as striate wrote it", remedy
        ) from None


def load_folds(run: RunDirectory) -> list[FoldResult]:
    """All finished folds, in order. Raises RunError where one is damaged."""
    results = [load_fold(path) for path in (run.path / "folds").glob("*.npz")]
    return sorted(results, key=lambda result: (result.repeat, result.fold))


def write_folds(run: RunDirectory, results: Sequence[FoldResult]) -> None:
    """Write cv.csv, one row per finished fold."""
    rows = [result.row() for result in results]
    write_text(cv_table(run), csv_of([finite(row) for row in rows]))


def write_assignment(run: RunDirectory, pool: Pool, dealt: NDArray[np.int64]) -> None:
    """Write folds.csv: the fold, from 1, that holds out each file in each repeat; `test` for a given test split, which
    no fold uses, and `unreadable`."""
    places = {number: place for place, number in enumerate(pool.samples.ids.tolist())}
    header = ["path", "label", *(f"repeat_{r + 1}" for r in range(len(dealt)))]
    rows = []
    for number, row in enumerate(pool.data.rows):
        place = places.get(number)
        homes = [row.split] * len(dealt) if place is None else (dealt[:, place] + 1).tolist()
        rows.append([row.path, row.label, *homes])
    write_text(run.folds, csv_text(header, rows))


def write_curves(run: RunDirectory, results: Sequence[FoldResult]) -> None:
    """Write metrics.csv: one row per epoch of each fold."""
    rows = [{"repeat": r.repeat, "fold": r.fold, **epoch} for r in results for epoch in r.history]
    write_text(run.metrics_csv, csv_of(rows))


def write_predictions(run: RunDirectory, pool: Pool, task: Task, results: Sequence[FoldResult]) -> None:
    """Write predictions.csv: one row for each time that a sample was held out.

    `truth` and `prediction` are class names (with the `probability` of the latter) or numbers (a pair of columns for
    each target); for masks, the `right` of the `labeled` pixels.
    """
    data = pool.data
    places = {number: place for place, number in enumerate(pool.samples.ids.tolist())}
    truth = pool.samples.targets.numpy()
    rows = []
    for result in results:
        settled = result.settled(task)
        for number, decoded in zip(result.ids.tolist(), result.decoded, strict=True):
            beginning = [data.rows[number].path, result.repeat, result.fold]
            rows.append(beginning + settled.cells(truth[places[number]], decoded))
    header = ["path", "repeat", "fold", *task.columns(data.target_names)]
    write_text(run.path / "predictions.csv", csv_text(header, rows))
