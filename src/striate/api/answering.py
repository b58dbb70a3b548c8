"""Answers of a trained network for many files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from striate.api.networks import load
from striate.api.training import Run
from striate.data.inputs import ReadInput, list_inputs, read_inputs, require_pictures
from striate.data.media.every import medium_of
from striate.errors import DataError
from striate.inference.answering import Answering, batch_size
from striate.inference.plan import Asked, InferencePlan, require_asked
from striate.machine.allocator import allocator_policy, usual_policy
from striate.training.trained import Prediction, Trained

_MOST_AT_ONCE = 64
"""So few files are answered at once that the first answers come soon."""


@dataclass(frozen=True)
class FileAnswer:
    """What is answered for one file: its `path` as text, and the `prediction`, or the `error` in plain words where it
    could not be read."""

    path: str
    prediction: Prediction | None
    error: str | None


@dataclass(frozen=True)
class FileAnswers:
    """The answers for `files`, in their order; each is computed when it is asked for, in iterating over this.

    `ignored`: other files in the folders, which are no pictures by their suffix. While the network computes, some dozen
    files ahead are decoded in threads, and no more; they end with the iteration.
    """

    trained: Trained
    files: tuple[str, ...]
    ignored: int
    answering: Answering

    @property
    def plan(self) -> InferencePlan:
        """How the answers are computed."""
        return self.answering.plan

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Generator[FileAnswer, None, None]:
        with allocator_policy(usual_policy()), closing(read_inputs(self.files, self.trained.preparation)) as inputs:
            while chunk := list(islice(inputs, _batch(self.trained))):
                yield from self._answer(chunk)

    def _answer(self, chunk: Sequence[ReadInput]) -> Iterator[FileAnswer]:
        readable = [read.input for read in chunk if read.input is not None]
        predictions = iter(self.trained.answer_batch(readable, self.answering) if readable else [])
        for read in chunk:
            yield FileAnswer(read.path, None if read.input is None else next(predictions), read.error)


def answer_files(run: str | Path | Run | Trained, paths: Sequence[str | Path], *, plan: Asked = "auto") -> FileAnswers:
    """Answers for image files and for the images in folders, at any depth, in order; hidden files are left out.

    Thousands are answered in the fastest way whose answers are those of plain fp32, unless `plan` is `plain`: it is
    looked for before the first answer. Raises DataError where there are no pictures or the network takes none,
    UsageError for another word as `plan`.
    """
    require_asked(plan, "plan")
    trained = run if isinstance(run, Trained) else load(run.path if isinstance(run, Run) else run)
    require_pictures(trained.preparation)
    files, ignored = list_inputs([Path(path) for path in paths], medium_of(trained.preparation.kind))
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


def _batch(trained: Trained) -> int:
    return min(_MOST_AT_ONCE, batch_size(trained.preparation.input_shape))


def _spread(files: Sequence[str], trained: Trained) -> Callable[[int], torch.Tensor]:
    """A function that reads so many pictures of the files, evenly spread; fewer where the others cannot be read."""

    def sample(count: int) -> torch.Tensor:
        step = max(1, len(files) // count)
        order = [file for first in range(step) for file in files[first::step]]
        with closing(read_inputs(order, trained.preparation)) as inputs:
            readable = list(islice((read.input for read in inputs if read.input is not None), count))
        return torch.from_numpy(
            np.stack(readable) if readable else np.empty((0, *trained.preparation.input_shape), "u1")
        )

    return sample
