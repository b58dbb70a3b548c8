"""Predictions of a trained network for many files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
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
from striate.data.predict_inputs import (
    ReadInput,
    holds_rows,
    list_inputs,
    read_inputs,
    read_rows,
    require_pictures,
    typed_row,
)
from striate.data.sources.tree import as_text
from striate.errors import DataError, RunError, UsageError
from striate.evaluation.written_inference import written_inference
from striate.inference.plan import InferencePlan, PlanMode, require_plan_mode
from striate.inference.predictor import Predictor, batch_size, plain_predictor
from striate.machine.allocator import allocator_policy, usual_policy
from striate.runs.directory import open_run, path_of_run
from striate.training.trained import Prediction, Trained
from striate.visualize.picture import names_sample, sample_input
from striate.wording import several

_MOST_AT_ONCE = 64
"""Largest number of files in a batch: small, so that the first predictions come soon."""


@dataclass(frozen=True)
class FilePrediction:
    """The prediction for one file, for one sample in it, or for a part of it."""

    path: str
    """The file, or the name of the sample."""
    prediction: Prediction | None
    """None where the file could not be read."""
    error: str | None
    """Why the file could not be read; None where it could."""
    span: tuple[float, float] | None = None
    """The part of the file that the prediction is for, from and to which second; None: the whole file."""
    input: np.ndarray | None = None
    """The raw input of a sample that is not a file of its own; None for a file."""


@dataclass(frozen=True)
class FilePredictions:
    """The predictions for `files`, in their order; each is computed during the iteration.

    While the network computes, threads decode some dozen files ahead, and no more; they end with the iteration.
    """

    trained: Trained
    """The network."""
    files: tuple[str, ...]
    """The files, and the names of the samples that are not files of their own."""
    ignored: int
    """Number of other files in the folders, which are not pictures by their suffix."""
    predictor: Predictor
    """What computes the predictions."""
    rows: Mapping[str, ReadInput] = field(default_factory=dict)
    """By their name in `files`: the samples of an .npz or a table, and the paths that were refused."""
    tile: int | None = None
    """Side in pixels of the parts in which each file is computed; None: each file in one piece."""
    every: float | None = None
    """Seconds between the windows of a recording, each of which has a prediction; None: one prediction for a file."""

    @property
    def plan(self) -> InferencePlan:
        """The backend that computes the predictions."""
        return self.predictor.plan

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Generator[FilePrediction, None, None]:
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

    def _in_tiles(self, file: str) -> FilePrediction:
        assert self.tile is not None
        if file in self.rows:
            return FilePrediction(as_text(file), None, self.rows[file].error)
        try:
            return FilePrediction(as_text(file), self.trained.predict_tiled(Path(file), self.tile), None)
        except Unreadable as error:
            return FilePrediction(as_text(file), None, error.reason)

    def _in_windows(self, file: str, every: float) -> Iterator[FilePrediction]:
        name = as_text(file)
        if file in self.rows:
            yield FilePrediction(name, None, self.rows[file].error)
            return
        windows = self.trained.windows(Path(file), name, every)
        try:
            while part := list(islice(windows, _batch(self.trained))):
                found = self.trained.predict_batch([(raw, None) for _, raw in part], self.predictor)
                for (span, _), prediction in zip(part, found, strict=True):
                    yield FilePrediction(name, prediction, None, span)
        except Unreadable as error:
            yield FilePrediction(name, None, error.reason)

    def _predict(self, chunk: Sequence[ReadInput]) -> Iterator[FilePrediction]:
        readable = [(read.input, read.size) for read in chunk if read.input is not None]
        placed = [self._placement(read.path) for read in chunk if read.input is not None]
        predictions = self.trained.predict_batch(readable, self.predictor, placed)
        for read in chunk:
            prediction = None if read.input is None else next(predictions)
            own = read.input if read.path in self.rows or _is_sample(read.path) else None
            yield FilePrediction(read.path, prediction, read.error, input=own)

    def _placement(self, path: str) -> Placement | None:
        """Where a file lies in its input; None of a sample that is already an input."""
        return self.trained.placement(path) if Path(path).is_file() else None


def predict_files(
    run: str | Path | Run | Trained,
    paths: Sequence[str | Path],
    *,
    plan: PlanMode = "auto",
    tile: int | None = None,
    every: float | None = None,
    known: AbstractSet[str] = frozenset(),
) -> FilePredictions:
    """Predict for image files, for the images in folders, at any depth, for samples of named data sets (`digits#3`),
    for the samples in an .npz or, with a network of tables, a .csv, and for rows of a table (`5.1,3.5,1.4,0.2`), in
    order; hidden files are left out. A path that does not exist or cannot be read gets an error in place of its
    prediction.

    Predictions are computed by the backend of the run's metrics. For thousands of images it is first compared with
    plain fp32, and another one is chosen where it does not agree or the run had too few samples to choose one; `plan`
    `plain` takes plain fp32. `tile`: files of any size are computed in parts of this many pixels a side, in fp32.
    `every`: sounds of any length are predicted in windows, of which one begins every this many seconds. `known`: files
    that are left out, since their predictions are known. Raises DataError where there are no pictures or the network
    takes none, UsageError for an unknown `plan`.
    """
    require_plan_mode(plan)
    trained = run if isinstance(run, Trained) else load(run)
    files, ignored, rows = _list(paths, trained.preparation)
    samples = [file for file in files if file in rows and rows[file].error is None]
    if not files:
        medium = medium_of(trained.preparation.kind)
        raise DataError(
            ", ".join(map(str, paths)) or "paths",
            f"no {medium.many} ({several(ignored, 'other file')})",
            f"files with the suffix of {medium.a}, at any depth",
            "give the files by name, or another folder",
        )
    if known:
        files = tuple(file for file in files if as_text(file) not in known)
    if every is not None:
        if not medium_of(trained.preparation.kind).lasting or samples:
            got = samples[0] if samples else f"a run of {medium_of(trained.preparation.kind).many}"
            raise UsageError("--every", got, "sound files", "leave out --every")
        return FilePredictions(trained, files, ignored, plain_predictor(trained.module), rows, every=every)
    with allocator_policy(usual_policy()):
        if tile is not None:
            _ = trained.reach  # refuses a task without places before the first file
            predictor = plain_predictor(trained.module, "tiles are computed in plain fp32")
            samples += [file for file in files if file not in rows and _is_sample(file)]
            if samples:
                raise UsageError("--tile", samples[0], "files of pictures", "leave out --tile")
            return FilePredictions(trained, files, ignored, predictor, rows, tile)
        sample, batch, recorded = _evenly_spaced(files, trained, rows), _batch(trained), _recorded(run)
        predictor = trained.planned(sample, len(files), batch=batch, mode=plan, recorded=recorded)
    return FilePredictions(trained, files, ignored, predictor, rows)


def _recorded(run: str | Path | Run | Trained) -> InferencePlan | None:
    """The backend of the run's metrics; None of a network without a run."""
    if isinstance(run, Trained):
        return None
    with suppress(RunError):
        return written_inference(open_run(path_of_run(run)))
    return None


def _list(paths: Sequence[str | Path], preparation: Preparation) -> tuple[tuple[str, ...], int, dict[str, ReadInput]]:
    """The named samples and the files of `list_inputs`, in order; the number of ignored files; and by name the samples
    in files of many, and the refused paths with their errors. Raises DataError where all paths are refused."""
    found: list[str] = []
    rows: dict[str, ReadInput] = {}
    ignored, refused = 0, list[DataError]()
    for path in map(str, paths):
        try:
            files, others, inside = _list_one(path, preparation)
        except DataError as error:
            refused.append(error)
            reason = f"{error.got}; expected: {error.expected}" if Path(path).exists() else error.got
            files, others, inside = (path,), 0, {path: ReadInput(as_text(path), None, reason)}
        found += files
        ignored += others
        rows |= inside
    if refused and len(refused) == len(paths):
        raise refused[0]
    return tuple(found), ignored, rows


def _list_one(path: str, preparation: Preparation) -> tuple[tuple[str, ...], int, dict[str, ReadInput]]:
    """The same for one path."""
    if holds_rows(path, preparation):
        inside = read_rows(Path(path), preparation)
        return tuple(inside), 0, {name: ReadInput(name, row, None) for name, row in inside.items()}
    if _is_sample(path):
        return (path,), 0, {}
    if Path(path).exists():
        require_pictures(preparation, path)
    elif (row := typed_row(path, preparation)) is not None:
        return (path,), 0, {path: ReadInput(path, row, None)}
    return *list_inputs([path], medium_of(preparation.kind)), {}


def _read(
    files: Sequence[str], trained: Trained, rows: Mapping[str, ReadInput], *, raw: bool = False
) -> Generator[ReadInput, None, None]:
    """The inputs of the samples and files that `_list` found; `raw`: each in the shape of the network's input. Raises
    DataError for a sample that does not exist."""
    preparation = trained.preparation

    def source(file: str) -> str:
        return "rows" if file in rows else "sample" if _is_sample(file) else "file"

    for where, group in groupby(files, source):
        if where == "rows":
            yield from (rows[name] for name in group)
        elif where == "sample":
            yield from (ReadInput(name, sample_input(name, preparation), None) for name in group)
        else:
            with closing(read_inputs(list(group), preparation, read_one=None if raw else trained.read)) as inputs:
                yield from inputs


def _is_sample(name: str) -> bool:
    return names_sample(name) and not Path(name).exists()


def _batch(trained: Trained) -> int:
    return min(_MOST_AT_ONCE, batch_size(trained.preparation.input_shape))


def _evenly_spaced(
    files: Sequence[str], trained: Trained, rows: Mapping[str, ReadInput]
) -> Callable[[int], torch.Tensor]:
    """A function that reads a number of pictures, evenly spaced among the files; fewer where too few can be read."""

    def sample(count: int) -> torch.Tensor:
        step = max(1, len(files) // count)
        order = [file for first in range(step) for file in files[first::step]]
        with closing(_read(order, trained, rows, raw=True)) as inputs:
            readable = list(islice((read.input for read in inputs if read.input is not None), count))
        return torch.from_numpy(
            np.stack(readable) if readable else np.empty((0, *trained.preparation.input_shape), "u1")
        )

    return sample
