"""Metrics that a script computes itself, checked with known inputs."""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.eval.metrics.accumulated import SCORES, objects_of
from striate.doctor.checks.eval.metrics.accuracies import knows_padding, right_zeros, wrong_accuracy
from striate.doctor.checks.eval.metrics.concordance import wrong_concordance
from striate.doctor.checks.eval.metrics.detections import corners_expected, wrong_detection_metrics
from striate.doctor.checks.eval.metrics.known_inputs import NO_SCORES, functions_of, is_used
from striate.doctor.checks.eval.metrics.neighbors import wrong_precision
from striate.doctor.checks.eval.metrics.perfect_predictions import (
    absent_classes_finding,
    overlap_finding,
    reshapes_arguments,
    taken_from_one,
    wrong_for_targets,
)
from striate.doctor.checks.eval.metrics.recalls_and_precisions import recalls_and_precisions
from striate.doctor.checks.eval.metrics.top_k import wrong_top_k
from striate.doctor.checks.eval.script_evaluation import words_of
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding

_ERRORS = frozenset(["mae", "rmse", "mse", "mape", "smape"])


def wrong_metrics(evidence: Evidence) -> Iterator[Finding]:
    """Findings for functions and objects of the script that compute a wrong metric."""
    for node, function in functions_of(evidence.source):
        name, line = node.name, node.lineno
        words, found = words_of(name), None
        if "acc" in name.lower() and "top" not in name.lower():
            found = wrong_accuracy(name, line, function, padded=knows_padding(evidence.source, node))
            if found is None and is_used(evidence.source, name, function):
                found = right_zeros(evidence, name, line, function)
        elif words & (_ERRORS | SCORES) and "loss" not in words:
            error = bool(words & _ERRORS) or ("r2" not in words and taken_from_one(node))
            perfect, reshaped = 0.0 if error else 1.0, reshapes_arguments(evidence.source, node)
            found = wrong_for_targets(evidence, f"`{name}`", line, function, perfect=perfect, reshaped=reshaped)
            if found is None and not error:
                asked = evidence, name, f"`{name}`", line, function
                found = overlap_finding(*asked) or absent_classes_finding(*asked)
        if found is not None:
            yield found
    for node, function in functions_of(evidence.source, 3):
        name, words = node.name.lower(), words_of(node.name)
        if words & NO_SCORES:
            continue
        if "concordance" in name or "cindex" in name or {"c", "index"} <= words:
            yield from wrong_concordance(node, function)
    for needed in (2, 3):
        for node, function in functions_of(evidence.source, needed):
            if evidence.source.calls(node.name):
                yield from wrong_detection_metrics(node, function)
                yield from corners_expected(evidence, node, function)
            yield from wrong_top_k(evidence.source, node, function)
    for node, function in functions_of(evidence.source):
        yield from wrong_precision(node, function)
    for text, line, function in objects_of(evidence.source):
        found = wrong_for_targets(evidence, text, line, function, perfect=1.0)
        found = found or overlap_finding(evidence, text.split("` of")[0], text, line, function)
        if found is not None:
            yield found
    yield from recalls_and_precisions(evidence)
