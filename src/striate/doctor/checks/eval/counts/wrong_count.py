"""`eval.wrong-count`: is a metric of all samples divided by their number?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain, islice

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.counts.divided import (
    by_whole_batches,
    count_divided,
    divided_by_batches,
    mean_losses_divided,
)
from striate.doctor.checks.eval.counts.evaluation_result import wrong_log, wrong_result
from striate.doctor.checks.eval.counts.findings import wrong_count, wrong_share
from striate.doctor.checks.eval.counts.last_batch import last_batch_alone
from striate.doctor.checks.eval.counts.returned_early import returned_early
from striate.doctor.checks.eval.exchanged_predictions import FEWEST as _EXCHANGED
from striate.doctor.checks.eval.exchanged_predictions import scores_of_exchanged_predictions
from striate.doctor.checks.eval.library_metrics import PERFECT, wrong_library_metrics
from striate.doctor.checks.eval.means_of_differences import means_of_differences
from striate.doctor.checks.eval.metrics.exchanged_arguments import arguments_exchanged, exchanged_in_code
from striate.doctor.checks.eval.metrics.metric_functions import wrong_metrics
from striate.doctor.checks.eval.metrics.overlap_kinds import mislabeled_overlaps
from striate.doctor.checks.eval.never_reset import counts_never_reset
from striate.doctor.checks.eval.padding_in_count import padding_counted
from striate.doctor.checks.eval.perfect_network import scores_of_perfect_network
from striate.doctor.checks.eval.ranked_decisions import decisions_ranked
from striate.doctor.checks.eval.scaled_back import by_variance
from striate.doctor.checks.eval.signal_to_noise import doubled, peaks_of_bytes
from striate.doctor.checks.eval.subset_accuracy import subset_accuracies
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.records import Finding
from striate.wording import several


def _wrong_count(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    read = chain(
        _of_all_epochs(evidence),
        returned_early(source),
        last_batch_alone(source),
        mean_losses_divided(source),
        count_divided(source),
        by_whole_batches(source),
        divided_by_batches(source),
        _with_padding(source),
        wrong_metrics(evidence),
        _other_peak(evidence),
        _doubled(source),
        _by_variance(source),
        _cancelled(source),
        _of_decisions(source),
    )
    found = next(read, None)
    if found is not None:
        yield found
    elif source.library is not None:
        findings = chain(wrong_library_metrics(evidence), _of_exchanged_arguments(evidence), wrong_log(evidence))
        yield from islice(findings, 1)
    else:
        for check in (
            _part_of_all,
            wrong_result,
            arguments_exchanged,
            exchanged_in_code,
            _of_perfect_network,
            _of_exchanged_predictions,
            mislabeled_overlaps,
        ):
            try:
                found = next(check(evidence), None)
            except OutOfTime:
                raise
            except NoEvidence:  # the checks that read code are done
                continue
            if found is not None:
                yield found
                return


def _of_exchanged_arguments(evidence: Evidence) -> Iterator[Finding]:
    """Exchanged arguments in a library's validation; none where it cannot be run, which `wrong_log` reports."""
    try:
        yield from arguments_exchanged(evidence)
    except OutOfTime:
        raise
    except NoEvidence:
        return


def _of_perfect_network(evidence: Evidence) -> Iterator[Finding]:
    for score in scores_of_perfect_network(evidence):
        yield wrong_count(
            score.where,
            f"`{score.text}` gives `{score.name}` {score.value:.4g} for a network whose predictions are all right",
            "A perfect network would not get a perfect score: the printed number is not the metric that its name says.",
            "test it with predictions that equal the labels: accuracies, F1, IoU, Dice and hit rates have to be 1, "
            "errors 0",
            f"a score below {PERFECT}, or an error above 0, for a network whose outputs are replaced by the right ones",
        )


def _of_exchanged_predictions(evidence: Evidence) -> Iterator[Finding]:
    for pooled in scores_of_exchanged_predictions(evidence):
        yield wrong_count(
            pooled.where,
            f"`{pooled.text}` gives `{pooled.name}` 1 even for a network that predicts for "
            f"{several(pooled.count, 'sample')} the labels of other samples",
            "The predictions of different samples are collected in one set: equal ones count once, and a wrong "
            "prediction counts as right if it is right for another sample.",
            "collect it with the number of its sample: `found |= {(number, *span) for span in spans}`",
            f"a score of 1 although {_EXCHANGED} samples or more get the labels of others as outputs",
        )


def _of_all_epochs(evidence: Evidence) -> Iterator[Finding]:
    for count in counts_never_reset(evidence):
        yield wrong_count(
            f"line {count.line}",
            count.measured,
            count.why,
            count.remedy,
            "a count that is created before the epochs and never reset",
        )


def _other_peak(evidence: Evidence) -> Iterator[Finding]:
    for node in peaks_of_bytes(evidence):
        yield wrong_count(
            f"line {node.lineno}",
            f"`{ast.unparse(node)}` uses the peak of bytes, 255, for images whose largest value is 1",
            "All values in decibels are 48 too high.",
            "use the peak of the images: `10 * torch.log10(1.0 / error)`",
            "decibels with a peak of 255 for images up to 1",
        )


def _doubled(source: ScriptSource) -> Iterator[Finding]:
    for node in doubled(source):
        yield wrong_count(
            f"line {node.lineno}",
            f"`{ast.unparse(node)}` gets squared errors, and rises by 20 decibels when the error falls to a tenth",
            "All values in decibels are twice as high as they should be.",
            "take 10 times the logarithm of squared errors, `10 * torch.log10(1.0 / mse)`; a factor of 20 is for "
            "their root",
            "decibels that rise by 20 when a squared error falls to a tenth",
        )


def _by_variance(source: ScriptSource) -> Iterator[Finding]:
    for node, variance in by_variance(source):
        yield wrong_count(
            f"line {node.lineno}",
            f"`{ast.unparse(node)}` multiplies by the variance `{variance}`, though standardizing divides by its root",
            "The values that are scaled back, and errors computed from them, are not in the units of the data.",
            "multiply by the standard deviation, `scaler.scale_`, or use `scaler.inverse_transform(...)`",
            "a sum of a scaler's mean and its variance times a number",
        )


def _cancelled(source: ScriptSource) -> Iterator[Finding]:
    for name, value, squared in means_of_differences(source):
        what = "square" if squared else "absolute value"
        yield wrong_count(
            f"line {value.lineno}",
            f"`{name}` is `{ast.unparse(value)}`: the {what} of the mean difference, not the mean of the {what}s",
            "Errors that are too high and too low cancel: it is near zero for any predictions with the right mean.",
            "take the mean last: " + ("`((a - b) ** 2).mean()`" if squared else "`(a - b).abs().mean()`"),
            "the absolute value of a mean of differences that is named a mean absolute error, or the square of one "
            "that is named a mean squared error",
        )


def _of_decisions(source: ScriptSource) -> Iterator[Finding]:
    for node, scores in decisions_ranked(source):
        yield wrong_count(
            f"line {node.lineno}",
            f"`{ast.unparse(node)}` ranks samples by `{ast.unparse(scores)}`, which are decisions: one of two "
            "numbers, or the index of a class",
            "It depends on how samples are ordered by their scores. Decisions leave two groups, so the result is that "
            "of one threshold.",
            "pass the probabilities or scores, before any threshold or argmax: `roc_auc_score(labels, probabilities)`",
            "an area under a curve or an average precision of values that are compared, rounded or an argmax",
        )


def _with_padding(source: ScriptSource) -> Iterator[Finding]:
    for node in padding_counted(source):
        yield wrong_share(
            node,
            f"`{ast.unparse(node)}` divides the right predictions where a mask is set by the number of all "
            "positions, including padding",
            "divide by the number of positions where the mask is set: `total += int(mask.sum())`",
            "a count where a mask is set, divided by the number of all positions",
        )


def _part_of_all(evidence: Evidence) -> Iterator[Finding]:
    for line, measured in subset_accuracies(evidence):
        yield wrong_count(
            f"line {line}",
            measured,
            "A perfect network would not get a perfect score.",
            "divide by the number of samples that are counted: `(predicted[mask] == y[mask]).float().mean()`",
            "an accuracy that divides the right predictions in a part of the samples by the number of all samples",
        )


WRONG_COUNT = Check(
    codes=("eval.wrong-count",),
    run=_wrong_count,
    of_source=True,
)
