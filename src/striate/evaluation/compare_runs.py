"""Compares runs by their predictions for the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, pasted
from striate.evaluation.comparison import ComparedRun, Comparison, Pair, sentence_of
from striate.records import Interval
from striate.statistics.paired import LEVEL, Difference, holm
from striate.tasks.headline import Rows
from striate.tasks.task import Task

_COSTS = ("params", "macs", "train_seconds", "images_per_second")
_MOST = 1e18


@dataclass(frozen=True, eq=False)
class RunPredictions:
    """What a run predicted on one split."""

    path: str
    """Folder of the run."""
    model: str
    """The model, as in the run's configuration."""
    source: str
    """The source of the data, as in the run's configuration."""
    data_fields: Mapping[str, object]
    """The fields of the configuration that decide which samples there are, their labels and their splits."""
    data: str
    """Name of the data set."""
    task: type[Task]
    """Class of the task."""
    classes: tuple[str, ...]
    """Names of the classes."""
    samples: NDArray[Any]
    """(N,) paths of the samples, as in split.csv."""
    targets: NDArray[Any]
    """(N, …) targets of the samples."""
    predictions: NDArray[Any]
    """Predictions for the samples: class numbers (N,), numbers (N, T), masks (N, H, W), or whatever `task` predicts."""
    value: float
    """The headline metric of the split."""
    costs: Mapping[str, Any]
    """The content of the run's metrics.json; may be empty."""
    images: bool
    """Whether the samples are images."""
    made: Task | None = None
    """The task itself, where its class alone cannot measure predictions; else None."""
    groups: Sequence[str] = ()
    """The group of each sample; empty where samples have none."""

    def rows(self) -> Rows:
        """What each sample adds to the headline metric."""
        if self.made is not None:
            return self.made.rows_for(self.predictions, self.targets)
        return self.task.rows(self.predictions, self.targets, len(self.classes))


def compare_predictions(runs: Sequence[RunPredictions], split: str, *, notes: Sequence[str] = ()) -> Comparison:
    """The comparison of two or more runs on one split.

    Raises DataError where the runs were not measured on the same samples with the same labels.
    """
    first = runs[0]
    aligned = [first, *(_aligned(first, other, split) for other in runs[1:])]
    names = short_names([run.path for run in aligned])
    metric = first.task.metrics[0].key
    things = "images" if first.images else "samples"
    places = list(combinations(range(len(aligned)), 2))
    groups = next((run.groups for run in aligned if any(run.groups)), ())
    differences = [_difference(aligned[one], aligned[two], groups) for one, two in places]
    compared = tuple(_compared_run(run, name, groups) for run, name in zip(aligned, names, strict=True))
    pairs = pairs_of(names, differences, metric, things)
    n, task = len(first.samples), first.task.name
    return Comparison(first.data, split, n, things, task, metric, compared, pairs, tuple(notes))


def pairs_of(names: Sequence[str], differences: Sequence[Difference], metric: str, things: str) -> tuple[Pair, ...]:
    """All pairs of runs, in the order of `combinations`, with the differences of their `metric` and p-values after
    Holm's correction."""
    corrected = holm([difference.p_value for difference in differences])
    return tuple(
        _pair(two, difference, p, len(differences), metric, things)
        for two, difference, p in zip(combinations(names, 2), differences, corrected, strict=True)
    )


def short_names(paths: Sequence[str]) -> list[str]:
    """The last part of each path, or as many of its last parts as make it unique."""
    parts = [[part for part in path.split("/") if part not in ("", ".")] or [path] for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _compared_run(run: RunPredictions, name: str, groups: Sequence[str]) -> ComparedRun:
    rows = run.rows()
    interval = run.task.headline_interval(rows, groups)
    if interval is None:
        interval = (run.made or run.task).headline_metric().over(groups).estimate(rows).interval
    return compared_run(name, run.path, run.model, run.value, interval, run.costs)


def compared_run(
    name: str, path: str, model: str, value: float, interval: Interval | None, costs: Mapping[str, Any]
) -> ComparedRun:
    """A run with its costs, as far as its metrics.json has them."""
    known = {key: _count(costs.get(key)) for key in _COSTS}
    device = costs.get("device")
    known["device"] = device if isinstance(device, str) else None
    return ComparedRun(name, path, model, value, interval, **known)


def _count(value: Any) -> Any:
    """The value, if it is a plausible cost; else None: the file may hold anything."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and 0 <= value < _MOST else None


def _difference(first: RunPredictions, second: RunPredictions, groups: Sequence[str]) -> Difference:
    return first.task.difference(first.rows(), second.rows(), groups=groups)


def _pair(
    names: tuple[str, str], difference: Difference, corrected: float, pairs: int, metric: str, things: str
) -> Pair:
    better, other = names if difference.value >= 0 else names[::-1]
    if difference.value < 0:
        difference = difference.reversed()
    certain = corrected < LEVEL
    # With several pairs, each needs a smaller p-value: Holm's level for the smallest one is Bonferroni's.
    needed = None if certain else difference.needed(LEVEL / pairs)
    needed = None if needed is None or needed <= difference.n else needed
    sentence = sentence_of(
        better, other, difference, corrected=corrected, pairs=pairs, needed=needed, metric=metric, things=things
    )
    return Pair(better, other, difference, corrected, certain, needed, sentence)


def _aligned(first: RunPredictions, other: RunPredictions, split: str) -> RunPredictions:
    """The other run's predictions in the order of the first one's. Raises DataError where they are for other
    samples."""
    config, out = pasted(f"{other.path}/config.yaml"), pasted(f"{other.path}-same-data")
    changed_fields = "".join(
        f" --{name} {'null' if value is None else pasted(value)}"
        for name, value in first.data_fields.items()
        if value != other.data_fields[name]
    )
    again = (
        "train both on the same data and splits, for example:"
        f" striate train {pasted(first.source)} --config {config}{changed_fields} --out {out}"
    )

    def refuse(got: str, expected: str, remedy: str = again) -> DataError:
        return DataError(f"compare {first.path} {other.path}", got, expected, remedy)

    apart = f"evaluate each by itself: striate eval {pasted(first.path)}; striate eval {pasted(other.path)}"
    if first.task.name != other.task.name or len(first.targets.shape) != len(other.targets.shape):
        raise refuse(
            f"{first.path} has the task {first.task.name}, {other.path} the task {other.task.name}",
            "runs of one task",
            apart,
        )
    if first.classes != other.classes:
        one, two = (", ".join(run.classes[:5]) + (" …" if len(run.classes) > 5 else "") for run in (first, other))
        # A network whose last layer has a fixed number of outputs cannot learn another number of classes.
        remedy = again if len(first.classes) == len(other.classes) else apart
        got = f"different classes: {one} in {first.path}, {two} in {other.path}"
        raise refuse(got, "runs with the same classes", remedy)
    shared = len(np.intersect1d(first.samples, other.samples))
    if shared < len(first.samples) or shared < len(other.samples) or first.targets.shape[1:] != other.targets.shape[1:]:
        got = (
            f"{len(first.samples):,} {split} samples of {first.data} in {first.path}, {len(other.samples):,} of "
            f"{other.data} in {other.path}; {shared:,} are in both"
        )
        raise refuse(got, f"the same {split} samples in both")
    order = np.argsort(other.samples, kind="stable")[np.argsort(np.argsort(first.samples, kind="stable"))]
    targets = other.targets[order]
    changed = int((targets.reshape(len(targets), -1) != first.targets.reshape(len(targets), -1)).any(1).sum())
    if changed:
        got = f"{changed:,} of {len(targets):,} {split} samples with other labels in {other.path} than in {first.path}"
        raise refuse(got, "the same samples with the same labels in both")
    groups = [other.groups[place] for place in order] if any(other.groups) else ()
    return replace(
        other, samples=other.samples[order], targets=targets, predictions=other.predictions[order], groups=groups
    )
