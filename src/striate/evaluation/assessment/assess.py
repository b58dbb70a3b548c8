"""From the predictions for a split, or for the splits of a run, to everything that follows from them."""

from __future__ import annotations

from collections.abc import Mapping

from striate.data.dataset import Dataset, SampleFacts
from striate.statistics.calibration import Temperature
from striate.tasks.evaluation import Evaluation
from striate.tasks.figures import Assessment, Figures
from striate.tasks.task import Task


def assess_run(task: Task, data: Dataset, evaluations: Mapping[str, Evaluation]) -> Assessment:
    """Everything about the splits `val` and `test`, which one network predicted, and the gap to `train`.

    The temperature is fitted on `val`; nothing of `test` goes into any other figure.
    """
    val, test = evaluations["val"], evaluations["test"]
    temperature = task.fit_temperature(val)
    splits = {name: assess_split(task, part, data, temperature) for name, part in (("val", val), ("test", test))}
    return Assessment(task.name, data.name, test.classes, temperature, task.gap(evaluations["train"], val), splits)


def assess_split(task: Task, evaluation: Evaluation, data: Dataset, temperature: Temperature | None = None) -> Figures:
    """Everything that follows from the predictions for one split of `data`."""
    facts = data.facts.get(evaluation.split)
    if facts is None or len(facts.paths) != evaluation.n:  # splits that were dealt anew
        facts = SampleFacts(tuple(map(str, evaluation.ids.tolist())))
    return task.assess(evaluation, facts, temperature, data.target_names)
