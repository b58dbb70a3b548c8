"""Write predictions for any number of files in bounded memory, as one Parquet file."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import Any

from striate.api.predicted_lines import Predicting, line_of
from striate.api.predicting import FilePredictions, predict_files
from striate.api.predictions_table.parts import Parts, opened_parts
from striate.data.sources.tree import as_text
from striate.errors import UsageError
from striate.inference.plan import PlanMode
from striate.inference.plan_key import network_digest
from striate.runs.events import file_digest
from striate.training.trained import Trained

_SECONDS, _LINES = 10.0, 4096
"""A part is written after this time or this many lines: a process that is killed loses no more."""


Line = dict[str, Any]
"""A line of `predict --json`."""


@dataclass(frozen=True)
class PredictionsFile:
    """Predictions that are written into a file while they are iterated."""

    trained: Trained
    """The network."""
    predictions: FilePredictions
    """The predictions that have no row yet."""
    before: int
    """Number of rows that the file had before."""
    _request: Predicting
    _parts: Parts
    _ray: str | None

    @property
    def rows(self) -> int:
        """Number of rows by now."""
        return self._parts.rows

    @property
    def unreadable(self) -> int:
        """Number of rows with an error."""
        return self._parts.unreadable

    def __iter__(self) -> Generator[list[Line], None, None]:
        """Predict, and yield the lines of one file after the other. The Parquet file is complete when the iteration is;
        if the iteration ends earlier, in any way, the next call continues with the saved predictions."""
        began, pending = monotonic(), list[Line]()
        try:
            with closing(_by_file(self._request, self.predictions, self._ray)) as files:
                for lines in files:
                    pending += lines
                    yield lines
                    if len(pending) >= _LINES or monotonic() - began >= _SECONDS:
                        part, pending = pending, []
                        self._parts.add(part)
                        began = monotonic()
        finally:
            self._parts.add(pending)
        self._parts.join()


@contextmanager
def predictions_file(
    request: Predicting, paths: Sequence[str | Path], out: Path, *, ray: str | None = None, plan: PlanMode = "auto"
) -> Iterator[PredictionsFile]:
    """Predict into the Parquet file `out`, in bounded memory: a row for each file, or for each window with `every`; a
    column `path`, and one for each field of `predict --json`. The context is iterated to predict.

    If the process is killed, the next call continues; no row is lost or written twice, and files that have a row are
    not predicted again. `ray`: the address of a cluster, or `auto`. Raises UsageError for a file of another network or
    other options and where an extra is not installed; DataError and RunError as `predict_files`.
    """
    if ray is not None and (request.masks or request.draw):
        option = "--masks" if request.masks else "--draw"
        raise UsageError(option, "with --ray", "files that one process writes", f"leave out --ray or {option}")
    trained = request.load()
    with opened_parts(out, _about(request, trained)) as parts:
        predictions = predict_files(
            trained, paths, plan=plan, tile=request.tile, every=request.every, known=parts.paths
        )
        predictions = replace(predictions, files=tuple(dict.fromkeys(predictions.files)))
        yield PredictionsFile(trained, predictions, parts.rows, request, parts, ray)


def _about(request: Predicting, trained: Trained) -> dict[str, Any]:
    """What predictions depend on, as plain values."""
    options = {name: value for name, value in asdict(request).items() if name not in ("run", "masks", "draw") and value}
    files = [file for file in (request.run, request.run.with_suffix(".bin")) if file.is_file()]  # OpenVINO's weights
    network = network_digest(trained.module, weights=True)
    return {"network": network, "files": [file_digest(file) for file in files], "options": options}


def _by_file(request: Predicting, predictions: FilePredictions, ray: str | None) -> Generator[list[Line], None, None]:
    """The lines of each file."""
    if ray is None or not predictions.files:
        writers = request.writers(predictions.trained)
        for _, of_one in groupby(predictions, lambda predicted: predicted.path):
            yield [line_of(predicted, writers) for predicted in of_one]
        return
    from striate.api.predictions_table.on_ray import lines_on_ray

    # Samples of arrays and tables, refused paths, and file names that are not valid text stay in this process.
    here = tuple(file for file in predictions.files if file in predictions.rows or as_text(file) != file)
    there = tuple(sorted(set(predictions.files).difference(here)))
    yield from _by_file(request, replace(predictions, files=here), None)
    if there:
        yield from lines_on_ray(request, replace(predictions, files=there), ray)
