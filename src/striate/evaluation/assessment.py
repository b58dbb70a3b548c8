"""Assesses the predictions for one split, or for the splits of a run.
A run saves the assessment, evaluation.json, and the predictions for each sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from striate.data.dataset import Dataset, SampleFacts
from striate.errors import RunError
from striate.evaluation.evaluate import groups_of
from striate.records import Interval
from striate.runs.directory import RunDirectory
from striate.runs.files import write_json
from striate.runs.plain_files import is_there
from striate.runs.predictions import MOST_SAMPLES, MOST_VALUES, Predictions, write_predictions
from striate.runs.verified_files import read_verified_json
from striate.statistics.calibration import LEAST, MOST, Temperature
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.evaluation import Evaluation
from striate.tasks.task import Task
from striate.wording import several


def assess_run(task: Task, data: Dataset, evaluations: Mapping[str, Evaluation]) -> Assessment:
    """The assessment of one network's predictions for the splits `val` and `test` (if there is one), and the gap to
    `train`.

    The temperature is fitted on `val`; no other metric depends on `test`.
    """
    val = evaluations["val"]
    temperature = task.fit_temperature(val)
    held_out = {name: part for name, part in evaluations.items() if name != "train"}
    splits = {name: assess_split(task, part, data, temperature) for name, part in held_out.items()}
    return Assessment(task.name, data.name, val.classes, temperature, task.gap(evaluations["train"], val), splits)


def assess_split(
    task: Task, evaluation: Evaluation, data: Dataset, temperature: Temperature | None = None
) -> SplitMetrics:
    """The assessment of the predictions for one split of `data`."""
    facts = data.facts.get(evaluation.split)
    if facts is None or len(facts.paths) != evaluation.n:  # splits that were dealt anew
        facts = SampleFacts(tuple(map(str, evaluation.ids.tolist())))
    return task.assess(evaluation, facts, temperature, data.target_names)


def save_assessment(
    run: RunDirectory,
    assessment: Assessment,
    data: Dataset,
    evaluations: Mapping[str, Evaluation],
    announce: Callable[[str], None],
) -> None:
    """Write evaluation.json and `predictions/`; `announce` gets a message where predictions are too many to be saved.
    Raises RunError."""
    left_out = []
    for split in assessment.splits:
        if not write_predictions(run, _predictions(evaluations[split], data)):
            announce(f"the {several(evaluations[split].n, 'prediction')} for {split} are too many and are not saved")
            left_out.append(split)
    write_json(run.evaluation, assessment.to_json() | ({"not_saved": left_out} if left_out else {}))


def _predictions(evaluation: Evaluation, data: Dataset) -> Predictions:
    return Predictions(
        evaluation.task,
        evaluation.split,
        evaluation.classes,
        evaluation.ids,
        sample_paths(evaluation, data),
        evaluation.targets,
        np.asarray(evaluation.decoded),
        evaluation.predicted,
        tuple(groups_of(data, evaluation.split)),
    )


def sample_paths(evaluation: Evaluation, data: Dataset) -> tuple[str, ...]:
    """The path of each sample, as in split.csv, or its number where there are no files."""
    facts, ids = data.facts.get(evaluation.split), evaluation.ids
    return tuple(map(str, ids.tolist())) if facts is None or len(facts.paths) != len(ids) else facts.paths


def is_fully_saved(run: RunDirectory) -> bool:
    """Whether the run has a readable evaluation.json, and the predictions that are saved with it."""
    with suppress(RunError, KeyError, TypeError):
        document = read_verified_json(run.evaluation)
        splits, classes = document["splits"], document["classes"]
        n = splits.get("test", splits["val"])["n"]
        kept = n <= MOST_SAMPLES and n * len(classes) <= MOST_VALUES
        left_out = document.get("not_saved", ())
        files = [run.predictions / f"{split}.npz" for split in splits if split not in left_out]
        return not kept or all(is_there(file) for file in files)
    return False


def read_temperature(run: RunDirectory) -> Temperature | None:
    """The temperature of evaluation.json; None where there is none, or one that no fit has written."""
    document = read_verified_json(run.evaluation)
    with suppress(KeyError, TypeError, ValueError, OverflowError):
        if isinstance(document, dict) and document["temperature"] is not None:
            return _temperature(document["temperature"])
    return None


def read_gap(run: RunDirectory) -> dict[str, Any] | None:
    """The gap of evaluation.json under its keys; None where there is none."""
    document = read_verified_json(run.evaluation)
    gap = document.get("gap") if isinstance(document, dict) else None
    return gap if isinstance(gap, dict) else None


def _temperature(saved: dict[str, Any]) -> Temperature:
    """Raises ValueError for values that no fit has written: not a number, out of range, or an interval that does not
    hold the temperature."""
    low, high = map(_number, saved["interval"])
    values = {name: _number(saved[name]) for name in ("value", "nll", "nll_after")}
    fitted_on, n = saved["fitted_on"], saved["n"]
    if not LEAST <= values["value"] <= MOST or not low <= values["value"] <= high:
        raise ValueError("no temperature")
    if fitted_on != "val" or type(n) is not int or n < 1:
        raise ValueError("not fitted on validation")
    interval = Interval(low, high, 0.95, "likelihood ratio")
    return Temperature(interval=interval, fitted_on=fitted_on, n=n, few=str(saved["few"]), **values)


def _number(saved: Any) -> float:
    if isinstance(saved, bool) or not isinstance(saved, int | float) or not math.isfinite(saved):
        raise ValueError("not a number")
    return float(saved)
