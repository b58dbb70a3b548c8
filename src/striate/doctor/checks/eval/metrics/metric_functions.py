"""Metrics that a script computes itself, asked for what is known beforehand."""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.eval.evaluated import words_of
from striate.doctor.checks.eval.metrics.accumulated import SCORES, objects_of
from striate.doctor.checks.eval.metrics.accuracies import knows_padding, right_zeros, untrue_accuracy
from striate.doctor.checks.eval.metrics.asked import NO_SCORES, functions_of, is_used
from striate.doctor.checks.eval.metrics.concordance import untrue_concordance
from striate.doctor.checks.eval.metrics.detections import untrue_of_detections
from striate.doctor.checks.eval.metrics.neighbors import untrue_precision
from striate.doctor.checks.eval.metrics.perfect_predictions import other_share, taken_from_one, untrue_of_right
from striate.doctor.checks.eval.metrics.recalls_and_precisions import recalls_and_precisions
from striate.doctor.checks.eval.metrics.top_few import untrue_of_top_few
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding

_ERRORS = frozenset(["mae", "rmse", "mse", "mape", "smape"])


def untrue_metrics(evidence: Evidence) -> Iterator[Finding]:
    """Functions of the script whose metric is wrong, of those that can be asked."""
    for node, function in functions_of(evidence.source):
        name, line = node.name, node.lineno
        words, found = words_of(name), None
        if "acc" in name.lower() and "top" not in name.lower():
            found = untrue_accuracy(name, line, function, padded=knows_padding(evidence.source, node))
            if found is None and is_used(evidence.source, name, function):
                found = right_zeros(evidence, name, line, function)
        elif words & (_ERRORS | SCORES) and "loss" not in words:
            error = bool(words & _ERRORS) or ("r2" not in words and taken_from_one(node))
            found = untrue_of_right(evidence, f"`{name}`", line, function, perfect=0.0 if error else 1.0)
            if found is None and not error:
                found = other_share(evidence, name, f"`{name}`", line, function)
        if found is not None:
            yield found
    for node, function in functions_of(evidence.source, 3):
        name, words = node.name.lower(), words_of(node.name)
        if words & NO_SCORES:
            continue
        if "concordance" in name or "cindex" in name or {"c", "index"} <= words:
            yield from untrue_concordance(node, function)
    for needed in (2, 3):
        for node, function in functions_of(evidence.source, needed):
            if evidence.source.calls(node.name):
                yield from untrue_of_detections(node, function)
            yield from untrue_of_top_few(evidence.source, node, function)
    for node, function in functions_of(evidence.source):
        yield from untrue_precision(node, function)
    for said, line, function in objects_of(evidence.source):
        found = untrue_of_right(evidence, said, line, function, perfect=1.0)
        found = found or other_share(evidence, said.split("` of")[0], said, line, function)
        if found is not None:
            yield found
    yield from recalls_and_precisions(evidence)
