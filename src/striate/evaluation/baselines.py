"""Fits baselines on the splits of a network, and writes them as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from striate.data.dataset import Dataset
from striate.errors import ConfigError, DataError
from striate.evaluation.evaluate import groups_of
from striate.tasks.baseline import Baseline, Fitted, Method
from striate.tasks.registry import split_line
from striate.tasks.task import Task
from striate.wording import several

_FIELDS = ("task.name", "task.class_weights", "seed")


def fit_baselines(
    data: Dataset, task: Task, *, seed: int = 0, announce: Callable[[str], None] = lambda _: None
) -> tuple[Baseline, ...]:
    """Fit the baselines of the task on `train`, choose hyperparameters by `val`, measure on `test`; the simplest first.

    Classes: the most frequent class; logistic regression; for images HOG (and color) with a linear SVM. Numbers: the
    mean; ridge regression; for tables gradient boosting. Masks: the most frequent class; a random forest on each
    pixel's surroundings. The same data, seed and threads give the same predictions; baselines use torch's number of
    threads. `announce` gets a message before each fit. Raises DataError where one of the three splits is missing or
    empty.
    """
    data.require_test("baselines")
    task = task.deciding(None, None)  # costs and thresholds are meant for the network's probabilities
    for name in ("train", "val", "test"):
        if not len(data.splits.get(name, ())):
            where = f"baselines of {data.name}"
            raise DataError(where, f"no samples in {name}", "train, val and test", "give data that are split in three")
    baselines = []
    with threadpool_limits(torch.get_num_threads()):
        for method in task.baselines(data):
            announce(f"baseline: {method.name}")
            started = monotonic()
            fitted = method.fit(data, task, seed)
            baselines.append(_measured(method, fitted, data, task, monotonic() - started))
    return tuple(baselines)


def refuse_network_fields(fields: Mapping[str, object]) -> None:
    """Raise ConfigError for the first dotted field that only networks use."""
    for name in fields:
        if not name.startswith("data.") and name not in _FIELDS:
            raise ConfigError(
                name,
                f"{fields[name]} for baselines",
                "a field that baselines use: data.*, task.name, task.class_weights or seed",
                f"leave out --{name}, or train a network, too: striate train --baseline",
            )


def _measured(method: Method, fitted: Fitted, data: Dataset, task: Task, seconds: float) -> Baseline:
    targets = data.splits["test"].all_targets()
    metrics: dict[str, Any] = {"n": len(targets), **task.measure(fitted.decoded, targets)}
    if not fitted.ranked:
        metrics.pop("top5", None)
    metrics |= task.interval(np.asarray(fitted.decoded), np.asarray(targets), groups_of(data, "test"))
    return Baseline(
        method.name,
        method.what,
        fitted.features,
        fitted.hyperparameters,
        fitted.n_train,
        seconds,
        metrics,
        fitted.note,
        np.asarray(fitted.decoded),
    )


def baseline_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each of `Baseline.to_json()`: its name and its metrics on the test split."""
    width = max((len(entry["name"]) for entry in entries), default=0)
    return [f"  {entry['name']:<{width}}  {split_line(entry).partition(', n =')[0]}" for entry in entries]


def comparison_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines after the test line of a training: `entries` as in metrics.json under `baselines`; empty without
    any."""
    if not entries:
        return []
    thing = "test episode" if "episodes" in entries[0] else "test sample"
    head = f"baselines on the same {several(entries[0]['n'], thing)}:"
    return [head, *baseline_lines(entries), *(entry["comparison"]["sentence"] for entry in entries)]
