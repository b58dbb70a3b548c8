"""Predictions of a trained network for many files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch

from striate.api.networks import load
from striate.api.subject import sample_input
from striate.api.training import Run
from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.data.predict_inputs import ReadInput, list_inputs, read_inputs, require_pictures
from striate.errors import DataError
from striate.inference.plan import Asked, InferencePlan, require_asked
from striate.inference.predictor import Predictor, batch_size
from striate.machine.allocator import allocator_policy, usual_policy
from striate.training.trained import Prediction, Trained
from striate.visualize.picture import names_sample

_MOST_AT_ONCE = 64
"""Files at once: few, so that the first predictions come soon."""


@dataclass(frozen=True)
class FileAnswer:
    """The `prediction` for the file at `path`, or the `error` in plain words where it could not be read."""

    path: str
    prediction: Prediction | None
    error: str | None


@dataclass(frozen=True)
class FileAnswers:
    """The predictions for `files`, in their order; each is computed during the iteration.

    `ignored`: number of other files in the folders, which are no pictures by their suffix. While the network computes,
    threads decode some dozen files ahead, and no more; they end with the iteration.
    """

    trained: Trained
    files: tuple[str, ...]
    ignored: int
    answering: Predictor

    @property
    def plan(self) -> InferencePlan:
        """The backend that computes the predictions."""
        return self.answering.plan

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Generator[FileAnswer, None, None]:
        with allocator_policy(usual_policy()), closing(_read(self.files, self.trained.preparation)) as inputs:
            while chunk := list(islice(inputs, _batch(self.trained))):
                yield from self._predict(chunk)

    def _predict(self, chunk: Sequence[ReadInput]) -> Iterator[FileAnswer]:
        readable = [read.input for read in chunk if read.input is not None]
        predictions = iter(self.trained.answer_batch(readable, self.answering) if readable else [])
        for read in chunk:
            yield FileAnswer(read.path, None if read.input is None else next(predictions), read.error)


def answer_files(run: str | Path | Run | Trained, paths: Sequence[str | Path], *, plan: Asked = "auto") -> FileAnswers:
    """Predictions for image files, for the images in folders, at any depth, and for samples of named data sets
    (`digits#3`), in order; hidden files are left out.

    For thousands of images the fastest backend whose predictions agree with plain fp32 is chosen before the first
    prediction, unless `plan` is `plain`. Raises DataError where there are no pictures or the network takes none,
    UsageError for another word as `plan`.
    """
    require_asked(plan, "plan")
    trained = run if isinstance(run, Trained) else load(run.path if isinstance(run, Run) else run)
    require_pictures(trained.preparation)
    files, ignored = _list(paths, trained.preparation)
    if not files:
        raise DataError(
            ", ".join(map(str, paths)) or "paths",
            f"no pictures ({ignored:,} other files)",
            "files with the suffix of a picture, at any depth",
            "give the files by name, or another folder",
        )
    with allocator_policy(usual_policy()):
        answering = trained.planned(_spread(files, trained), len(files), batch=_batch(trained), asked=plan)
    return FileAnswers(trained, files, ignored, answering)


def _list(paths: Sequence[str | Path], preparation: Preparation) -> tuple[tuple[str, ...], int]:
    """Samples as they are named, and the files of `list_inputs`, in order; and how many files were ignored."""
    found: list[str] = []
    ignored = 0
    for path in paths:
        if names_sample(str(path)) and not Path(path).exists():
            found.append(str(path))
            continue
        files, others = list_inputs([path], medium_of(preparation.kind))
        found += files
        ignored += others
    return tuple(found), ignored


def _read(files: Sequence[str], preparation: Preparation) -> Generator[ReadInput, None, None]:
    """`read_inputs` of what `_list` found. Raises DataError for a sample that there is not."""
    for samples, group in groupby(files, lambda file: names_sample(file) and not Path(file).exists()):
        if samples:
            for name in group:
                yield ReadInput(name, sample_input(name, preparation), None)
        else:
            with closing(read_inputs(list(group), preparation)) as inputs:
                yield from inputs


def _batch(trained: Trained) -> int:
    return min(_MOST_AT_ONCE, batch_size(trained.preparation.input_shape))


def _spread(files: Sequence[str], trained: Trained) -> Callable[[int], torch.Tensor]:
    """A function that reads so many pictures of the files, evenly spread; fewer where the others cannot be read."""

    def sample(count: int) -> torch.Tensor:
        step = max(1, len(files) // count)
        order = [file for first in range(step) for file in files[first::step]]
        with closing(_read(order, trained.preparation)) as inputs:
            readable = list(islice((read.input for read in inputs if read.input is not None), count))
        return torch.from_numpy(
            np.stack(readable) if readable else np.empty((0, *trained.preparation.input_shape), "u1")
        )

    return sample
