"""Predictions for any number of files in bounded memory, as one Parquet file."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import Any

from striate.api.predicted_lines import Predicting, line_of
from striate.api.predicting import FileAnswers, answer_files
from striate.api.predictions_file.parts import Parts, opened_parts
from striate.data.sources.tree import as_text
from striate.errors import UsageError
from striate.inference.plan import PlanMode
from striate.inference.plan_key import network_digest
from striate.runs.events import file_digest
from striate.training.trained import Trained

_SECONDS, _LINES = 10.0, 4096
"""A part is written after so long, or with so many lines: what a process that is killed loses at most."""


Line = dict[str, Any]
"""What `predict --json` prints of a file."""


@dataclass(frozen=True)
class PredictionsFile:
    """Predictions on the way into a file. `answers`: those that have no row yet; `before`: how many rows there were."""

    trained: Trained
    answers: FileAnswers
    before: int
    _asked: Predicting
    _parts: Parts
    _ray: str | None

    @property
    def rows(self) -> int:
        """How many there are by now."""
        return self._parts.rows

    @property
    def unreadable(self) -> int:
        """How many of them are of files that could not be read."""
        return self._parts.unreadable

    def __iter__(self) -> Generator[list[Line], None, None]:
        """Predict: the lines of one file after the other. The file is there when all are; where the iteration ends
        earlier, in any way, what was predicted is kept for the next call."""
        began, pending = monotonic(), list[Line]()
        try:
            with closing(_by_file(self._asked, self.answers, self._ray)) as files:
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
    asked: Predicting, paths: Sequence[str | Path], out: Path, *, ray: str | None = None, plan: PlanMode = "auto"
) -> Iterator[PredictionsFile]:
    """A Parquet file `out` with a row for each file, of any number, in bounded memory: a column `path` and one for each
    field of `predict --json`; a row for each window with `every`.

    To be iterated. Whenever the process is killed, the next call goes on where it was, and no row is lost or doubled;
    of files that have a row nothing is computed. `ray`: the address of a cluster, or `auto`. Raises UsageError for a
    file of another network or other options and where an extra is not installed; DataError and RunError as
    `answer_files`.
    """
    if ray is not None and (asked.masks or asked.draw):
        option = "--masks" if asked.masks else "--draw"
        raise UsageError(option, "with --ray", "files that one process writes", f"leave out --ray or {option}")
    trained = asked.load()
    with opened_parts(out, _about(asked, trained)) as parts:
        answers = answer_files(trained, paths, plan=plan, tile=asked.tile, every=asked.every, known=parts.paths)
        answers = replace(answers, files=tuple(dict.fromkeys(answers.files)))
        yield PredictionsFile(trained, answers, parts.rows, asked, parts, ray)


def _about(asked: Predicting, trained: Trained) -> dict[str, Any]:
    """All that predictions depend on, as plain values."""
    options = {name: value for name, value in asdict(asked).items() if name not in ("run", "masks", "draw") and value}
    files = [file for file in (asked.run, asked.run.with_suffix(".bin")) if file.is_file()]  # OpenVINO's weights
    network = network_digest(trained.module, weights=True)
    return {"network": network, "files": [file_digest(file) for file in files], "options": options}


def _by_file(asked: Predicting, answers: FileAnswers, ray: str | None) -> Generator[list[Line], None, None]:
    """The lines of each file."""
    if ray is None or not answers.files:
        writers = asked.writers(answers.trained)
        for _, of_one in groupby(answers, lambda answer: answer.path):
            yield [line_of(answer, writers) for answer in of_one]
        return
    from striate.api.predictions_file.on_ray import lines_on_ray

    # What arrays and tables hold, and what was refused, is in this process.
    # So are names that are no text: on some systems a name may be any bytes.
    here = tuple(file for file in answers.files if file in answers.rows or as_text(file) != file)
    there = tuple(sorted(set(answers.files).difference(here)))
    yield from _by_file(asked, replace(answers, files=here), None)
    if there:
        yield from lines_on_ray(asked, replace(answers, files=there), ray)
