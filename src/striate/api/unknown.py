"""Measure how well a network recognizes samples of unknown classes, and how far new pictures have drifted."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.api.announcing import Announce
from striate.api.networks import load
from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.media.every_medium import medium_of
from striate.data.predict_inputs import list_inputs, read_inputs
from striate.data.read import load_for_evaluation
from striate.data.sources.named import typed_source
from striate.errors import DataError
from striate.evaluation.drift import MOST, Drift, measure_drift, picture_quantities
from striate.evaluation.similarity.vectors import compute_vectors
from striate.evaluation.unknown import UnknownMeasured, inputs_of, measure_unknown, signals_of
from striate.runs.directory import RunPath, open_run, path_of_run
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data
from striate.training.trained import Trained
from striate.wording import several

_AT_ONCE, _FEWEST = 64, 20


def evaluate_unknown(run: RunPath, unknown: str | Path, *, announce: Announce | None = None) -> UnknownMeasured:
    """Measure how well the network of `run` recognizes samples of classes that it was not trained on: those of
    `unknown`, a folder of pictures at any depth or data in any form that `train` takes, against the run's held-out
    split.

    The run's data are read, to compare features with those of training samples. Raises DataError, RunError.
    """
    run = path_of_run(run)
    trained, data = load(run), _data_of(run, announce)
    _, inputs = _read(trained, unknown, announce)
    signals = signals_of(trained, inputs)
    if len(signals.features) < _FEWEST:
        got = several(len(signals.features), "sample")
        raise DataError(f"unknown {unknown}", got, f"{_FEWEST} or more", "give a folder with more samples")
    return measure_unknown(trained, data.splits, data.held_out, signals, run=str(run), name=str(unknown))


def data_drift(run: RunPath, new: str | Path, *, announce: Announce | None = None) -> Drift:
    """Test whether the pictures of `new`, a folder or data in any form that `train` takes, are like the held-out ones
    of `run`, by the features of its network and by statistics of the pictures. Raises DataError, RunError."""
    run = path_of_run(run)
    trained, data = load(run), _data_of(run, announce)
    paths, inputs = _read(trained, new, announce)
    now, statistics_now, contents = _features(trained, inputs)
    before, statistics_before, known = _features(trained, inputs_of(data.splits[data.held_out], MOST))
    for what, found in (("new pictures", contents), ("held-out samples of the run", known)):
        if (count := len(set(found))) < _FEWEST:
            got = f"{count:,} {'different ' if count < len(found) else ''}of the {what}"
            raise DataError(f"drift of {new}", got, f"{_FEWEST} or more", "give a folder with more samples")
    both = None if statistics_now is None or statistics_before is None else (statistics_before, statistics_now)
    return measure_drift(before, now, both, paths, contents=(known, contents), run=str(run), data=str(new))


def _features(trained: Trained, inputs: Iterator[NDArray[Any]]) -> tuple[NDArray[np.float32], Any, list[bytes]]:
    """Features, statistics of pictures, and a hash of each input's content."""
    features, statistics, contents = [], [], []
    for raw in inputs:
        contents += [blake2b(one.tobytes(), digest_size=16).digest() for one in raw]
        features.append(compute_vectors(trained, raw)[0])
        if raw.ndim == 4 and raw.dtype == np.uint8:
            statistics.append(picture_quantities(raw))
    found = np.concatenate(features) if features else np.empty((0, 1), np.float32)
    return found, np.concatenate(statistics) if statistics else None, contents


def _data_of(run: str | Path, announce: Announce | None) -> Dataset:
    opened = open_run(Path(run))
    return read_data(config_from_yaml(opened.config), announce, run=opened)[1]


def _read(trained: Trained, source: str | Path, announce: Announce | None) -> tuple[tuple[str, ...], Iterator[Any]]:
    """Names of samples, and their raw inputs in batches: of the pictures in a folder, or else of data."""
    medium = medium_of(trained.preparation.kind)
    files = list_inputs([source], medium)[0] if Path(source).is_dir() and medium.suffixes else ()
    if files:
        readable = [one for one in read_inputs(_evenly_spaced(files), trained.preparation) if one.input is not None]
        return tuple(one.path for one in readable), _stacked([one.input for one in readable if one.input is not None])
    config = DataConfig(source=typed_source(str(source)))
    data = load_for_evaluation(config, trained.preparation, trained.classes, "identity", announce=announce)
    ((name, split),) = data.splits.items()
    chosen = np.arange(min(len(split), MOST)) * len(split) // min(len(split), MOST)
    return tuple(data.facts[name].paths[k] for k in chosen), inputs_of(split, MOST)


def _stacked(inputs: list[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(inputs), _AT_ONCE):
        yield np.stack(inputs[start : start + _AT_ONCE])


def _evenly_spaced(files: tuple[str, ...]) -> tuple[str, ...]:
    count = min(len(files), MOST)
    return tuple(files[k * len(files) // count] for k in range(count))
