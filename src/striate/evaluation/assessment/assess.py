"""From the answers for a split, or for the splits of a run, to everything that follows from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from striate.data.dataset import Dataset, SampleFacts
from striate.evaluation.assessment.answers import largest_errors, notable_answers
from striate.evaluation.assessment.averages import average_figures
from striate.evaluation.assessment.by_class import MOST_RANKED, class_figures, confused_pairs, rank_curves
from striate.evaluation.assessment.calibration import fit_temperature, measure_calibration, with_temperature
from striate.evaluation.assessment.gap import measure_gap
from striate.evaluation.assessment.groups import FEWEST, sample_groups
from striate.evaluation.assessment.numbers import overall_figures, target_figures
from striate.evaluation.assessment.record import (
    Assessment,
    ClassificationFigures,
    Figures,
    RegressionFigures,
    Temperature,
)
from striate.evaluation.assessment.slices import slices_of_errors, slices_of_hits
from striate.evaluation.record import Evaluation

MATRIX = 200
"""Up to so many classes the confusion matrix is part of the record."""


def assess_run(data: Dataset, evaluations: Mapping[str, Evaluation]) -> Assessment | None:
    """Everything about the splits `val` and `test`, which were answered by one network, and the gap to `train`.

    The temperature is fitted on `val`; nothing of `test` goes into any other figure. None for masks.
    """
    val, test = evaluations["val"], evaluations["test"]
    temperature = temperature_of(val)
    splits = {name: assess_split(part, data, temperature) for name, part in (("val", val), ("test", test))}
    known = {name: figures for name, figures in splits.items() if figures is not None}
    if not known:
        return None
    gap = measure_gap(evaluations["train"], val)
    return Assessment(test.task, data.name, test.classes, temperature, gap, known)


def temperature_of(val: Evaluation) -> Temperature | None:
    """What validation says of the probabilities; None where the task has none, or it does not tell."""
    return fit_temperature(val.targets, val.decoded, val.split) if val.task == "classify" else None


def assess_split(evaluation: Evaluation, data: Dataset, temperature: Temperature | None = None) -> Figures | None:
    """Everything that follows from the answers for one split of `data`; None for masks."""
    facts = data.facts.get(evaluation.split)
    if facts is None or len(facts.paths) != evaluation.n:  # splits that were dealt anew
        facts = SampleFacts(tuple(map(str, evaluation.ids.tolist())))
    if evaluation.task == "classify":
        return _assess_classes(evaluation, facts, temperature)
    return _assess_numbers(evaluation, facts, data.target_names) if evaluation.task == "regress" else None


def _assess_classes(
    evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None
) -> ClassificationFigures:
    truth, probabilities, classes = evaluation.targets, evaluation.decoded, evaluation.classes
    confusion = evaluation.confusion
    assert confusion is not None
    rows = class_figures(truth, probabilities, confusion, classes)
    groups = sample_groups(facts, evaluation.n, truth=truth, classes=classes, brightness=evaluation.brightness)
    calibrated = None
    if temperature is not None:
        calibrated = measure_calibration(truth, with_temperature(probabilities, temperature.value))
    mistakes, unsure = notable_answers(truth, probabilities, classes, evaluation.ids, facts.paths)
    return ClassificationFigures(
        n=evaluation.n,
        figures=average_figures(truth, probabilities, confusion),
        classes=rows,
        confusion=tuple(map(tuple, confusion.tolist())) if len(classes) <= MATRIX else None,
        confused=confused_pairs(confusion, classes),
        curves=rank_curves(truth, probabilities, rows),
        calibration=measure_calibration(truth, probabilities),
        calibrated=calibrated,
        mistakes=mistakes,
        unsure=unsure,
        slices=slices_of_hits(groups, probabilities.argmax(1) == truth),
        left_out=_left_out(evaluation, temperature),
    )


def _left_out(evaluation: Evaluation, temperature: Temperature | None) -> tuple[str, ...]:
    sentences = []
    n, count = evaluation.n, len(evaluation.classes)
    if evaluation.decoded.size > MOST_RANKED:
        sentences.append(f"No areas under curves: {n:,} × {count:,} probabilities are more than {MOST_RANKED:,}.")
    if count > MATRIX:
        sentences.append(f"No confusion matrix in the record: {count:,} classes are more than {MATRIX}.")
    if n < FEWEST:
        sentences.append(f"No slices: {n} samples are fewer than {FEWEST}.")
    if temperature is None:
        sentences.append("No calibrated figures: validation gave no temperature.")
    return tuple(sentences)


def _assess_numbers(evaluation: Evaluation, facts: SampleFacts, names: tuple[str, ...]) -> RegressionFigures:
    truth, answers = (
        np.asarray(values, np.float64).reshape(evaluation.n, -1) for values in (evaluation.targets, evaluation.decoded)
    )
    named = names or tuple(f"value {t + 1}" for t in range(truth.shape[1]))
    groups = sample_groups(facts, evaluation.n, brightness=evaluation.brightness)
    few = f"{evaluation.n} samples are fewer than {FEWEST}."
    return RegressionFigures(
        n=evaluation.n,
        figures=overall_figures(truth, answers),
        targets=target_figures(truth, answers, named),
        largest=largest_errors(truth, answers, named, evaluation.ids, facts.paths),
        slices=slices_of_errors(groups, np.sqrt(((answers - truth) ** 2).mean(1))),
        left_out=(f"No intervals and no slices: {few}",) if evaluation.n < FEWEST else (),
    )
