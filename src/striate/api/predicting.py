"""Predictions of a trained network for many files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch

from striate.api.networks import load
from striate.api.training import Run
from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Placement, Unreadable
from striate.data.predict_inputs import ReadInput, holds_rows, list_inputs, read_inputs, read_rows, require_pictures
from striate.data.sources.tree import as_text
from striate.errors import DataError, RunError, UsageError
from striate.evaluation.written_inference import written_inference
from striate.inference.plan import Asked, InferencePlan, require_asked
from striate.inference.predictor import Predictor, batch_size, plain_predictor
from striate.machine.allocator import allocator_policy, usual_policy
from striate.runs.directory import open_run
from striate.training.trained import Prediction, Trained
from striate.visualize.picture import names_sample, sample_input
from striate.wording import several

_MOST_AT_ONCE = 64
"""Files at once: few, so that the first predictions come soon."""


@dataclass(frozen=True)
class FileAnswer:
    """The `prediction` for the file at `path`, or the `error` in plain words where it could not be read; `span`: for
    which part of it, from and to which second, where not for all of it."""

    path: str
    prediction: Prediction | None
    error: str | None
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class FileAnswers:
    """The predictions for `files`, in their order; each is computed during the iteration.

    `ignored`: number of other files in the folders, which are not pictures by their suffix. While the network computes,
    threads decode some dozen files ahead, and no more; they end with the iteration. `rows`: samples of an .npz or a
    table by their name among the files. With a `tile` (pixels), each file is computed in such parts; with `every`
    (seconds), there is a prediction for each window of a file that lasts.
    """

    trained: Trained
    files: tuple[str, ...]
    ignored: int
    answering: Predictor
    rows: Mapping[str, np.ndarray] = field(default_factory=dict)
    tile: int | None = None
    every: float | None = None

    @property
    def plan(self) -> InferencePlan:
        """The backend that computes the predictions."""
        return self.answering.plan

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Generator[FileAnswer, None, None]:
        if self.tile is not None:
            with allocator_policy(usual_policy()):
                yield from map(self._in_tiles, self.files)
            return
        if self.every is not None:
            with allocator_policy(usual_policy()):
                for file in self.files:
                    yield from self._in_windows(file, self.every)
            return
        with (
            allocator_policy(usual_policy()),
            closing(_read(self.files, self.trained, self.rows)) as inputs,
        ):
            while chunk := list(islice(inputs, _batch(self.trained))):
                yield from self._predict(chunk)

    def _in_tiles(self, file: str) -> FileAnswer:
        assert self.tile is not None
        try:
            return FileAnswer(as_text(file), self.trained.predict_tiled(Path(file), self.tile), None)
        except Unreadable as error:
            return FileAnswer(as_text(file), None, error.reason)

    def _in_windows(self, file: str, every: float) -> Iterator[FileAnswer]:
        name = as_text(file)
        windows = self.trained.windows(Path(file), name, every)
        try:
            while part := list(islice(windows, _batch(self.trained))):
                found = self.trained.answer_batch([(raw, None) for _, raw in part], self.answering)
                for (span, _), prediction in zip(part, found, strict=True):
                    yield FileAnswer(name, prediction, None, span)
        except Unreadable as error:
            yield FileAnswer(name, None, error.reason)

    def _predict(self, chunk: Sequence[ReadInput]) -> Iterator[FileAnswer]:
        readable = [(read.input, read.size) for read in chunk if read.input is not None]
        placed = [self._placement(read.path) for read in chunk if read.input is not None]
        predictions = self.trained.answer_batch(readable, self.answering, placed)
        for read in chunk:
            yield FileAnswer(read.path, None if read.input is None else next(predictions), read.error)

    def _placement(self, path: str) -> Placement | None:
        """Where a file lies in its input; of other samples, which are inputs already, None."""
        return self.trained.placement(path) if Path(path).is_file() else None


def answer_files(
    run: str | Path | Run | Trained,
    paths: Sequence[str | Path],
    *,
    plan: Asked = "auto",
    tile: int | None = None,
    every: float | None = None,
) -> FileAnswers:
    """Predictions for image files, for the images in folders, at any depth, for samples of named data sets
    (`digits#3`), and for the samples in an .npz or, with a network of tables, a .csv, in order; hidden files are left
    out. A path that does not exist has an error among predictions for others.

    They are computed as the run's own figures were; for thousands of images that is compared with plain fp32 first, and
    another backend chosen where it does not agree or the run had too few samples to choose one; unless `plan` is
    `plain`. `tile`: files of any size are computed in parts of so many pixels a side, in fp32. `every`: sounds of any
    length are predicted in windows, one that begins every so many seconds. Raises DataError where
    there are no pictures or the network takes none, UsageError for another word as `plan`.
    """
    require_asked(plan, "plan")
    trained = run if isinstance(run, Trained) else load(run.path if isinstance(run, Run) else run)
    files, ignored, rows = _list(paths, trained.preparation)
    if not files:
        medium = medium_of(trained.preparation.kind)
        raise DataError(
            ", ".join(map(str, paths)) or "paths",
            f"no {medium.many} ({several(ignored, 'other file')})",
            f"files with the suffix of {medium.a}, at any depth",
            "give the files by name, or another folder",
        )
    if every is not None:
        if not medium_of(trained.preparation.kind).lasting or rows:
            got = f"a run of {medium_of(trained.preparation.kind).many}" if not rows else next(iter(rows))
            raise UsageError("--every", got, "files that last: sounds", "leave out --every")
        return FileAnswers(trained, files, ignored, plain_predictor(trained.module), every=every)
    with allocator_policy(usual_policy()):
        if tile is not None:
            _ = trained.reach  # refuses a task without places before the first file
            answering = plain_predictor(trained.module, "tiles are computed plainly")
            return FileAnswers(trained, _only_files(files, rows), ignored, answering, {}, tile)
        spread, batch, written = _spread(files, trained, rows), _batch(trained), _written(run)
        answering = trained.planned(spread, len(files), batch=batch, asked=plan, written=written)
    return FileAnswers(trained, files, ignored, answering, rows)


def _only_files(files: tuple[str, ...], rows: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The files, if none is a sample of a data set. Raises UsageError."""
    samples = [file for file in files if file in rows or _is_sample(file)]
    if samples:
        raise UsageError("--tile", samples[0], "files of pictures", "leave out --tile")
    return files


def _written(run: str | Path | Run | Trained) -> InferencePlan | None:
    """How the run computed its figures; None of a network that is of no run."""
    if isinstance(run, Trained):
        return None
    with suppress(RunError):
        return written_inference(open_run(run.path if isinstance(run, Run) else Path(run)))
    return None


def _list(paths: Sequence[str | Path], preparation: Preparation) -> tuple[tuple[str, ...], int, dict[str, np.ndarray]]:
    """Samples as they are named, and the files of `list_inputs`, in order; how many files were ignored; and the samples
    that files of many hold."""
    found: list[str] = []
    rows: dict[str, np.ndarray] = {}
    ignored = 0
    missing = [path for path in paths if not Path(path).exists() and not names_sample(str(path))]
    for path in paths:
        if holds_rows(path, preparation):
            inside = read_rows(Path(path), preparation)
            found += inside
            rows |= inside
            continue
        if path not in missing:
            require_pictures(preparation, str(path))
        if _is_sample(str(path)) or (path in missing and len(missing) < len(paths)):
            found.append(str(path))
            continue
        files, others = list_inputs([path], medium_of(preparation.kind))
        found += files
        ignored += others
    return tuple(found), ignored, rows


def _read(
    files: Sequence[str], trained: Trained, rows: Mapping[str, np.ndarray], *, raw: bool = False
) -> Generator[ReadInput, None, None]:
    """`read_inputs` of what `_list` found; `raw`: each in the shape of the inputs. Raises DataError for a sample that
    there is not."""
    preparation = trained.preparation

    def source(file: str) -> str:
        return "rows" if file in rows else "sample" if _is_sample(file) else "file" if Path(file).exists() else "none"

    for where, group in groupby(files, source):
        if where == "rows":
            yield from (ReadInput(name, rows[name], None) for name in group)
        elif where == "sample":
            yield from (ReadInput(name, sample_input(name, preparation), None) for name in group)
        elif where == "none":
            yield from (ReadInput(as_text(name), None, "no such file or folder") for name in group)
        else:
            with closing(read_inputs(list(group), preparation, read_one=None if raw else trained.read)) as inputs:
                yield from inputs


def _is_sample(name: str) -> bool:
    return names_sample(name) and not Path(name).exists()


def _batch(trained: Trained) -> int:
    return min(_MOST_AT_ONCE, batch_size(trained.preparation.input_shape))


def _spread(files: Sequence[str], trained: Trained, rows: Mapping[str, np.ndarray]) -> Callable[[int], torch.Tensor]:
    """A function that reads so many pictures of the files, evenly spread; fewer where the others cannot be read."""

    def sample(count: int) -> torch.Tensor:
        step = max(1, len(files) // count)
        order = [file for first in range(step) for file in files[first::step]]
        with closing(_read(order, trained, rows, raw=True)) as inputs:
            readable = list(islice((read.input for read in inputs if read.input is not None), count))
        return torch.from_numpy(
            np.stack(readable) if readable else np.empty((0, *trained.preparation.input_shape), "u1")
        )

    return sample
