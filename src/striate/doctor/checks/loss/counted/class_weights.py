"""`loss.class-weights`: do the weights of a loss favor rare classes, and not the common ones?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import torch
from torch import nn

from striate.data.audit.classes import IMBALANCED, VERY_IMBALANCED, imbalance_severity
from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.class_counts import ClassCounts, class_counts
from striate.doctor.checks.data.labels.imbalance import recall, stated_weights, weights_of_classes
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import CLASS_LOSSES, class_losses
from striate.doctor.setup.batch import is_binary
from striate.records import Finding
from striate.wording import percent, several

_LIKE, _TIMES = 0.8, 2.0
_NEAR, _FAR = 0.3, 1.1
"""In logarithms: how near sorted weights are to the balanced ones, and how far one of them is off in its place (3x)."""
_FOUND = 0.9
"""Share of the class with the small weight that the network finds in spite of it."""
_ENOUGH = 20
"""Targets per class."""
_APART = 0.69
"""In logarithms: a factor of 2."""
_AS_BALANCED = 0.4
"""In logarithms: a factor of 1.5, since counts of some batches differ from those of all."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    rules = (_of_positives, _of_outputs, _of_classes, _of_even_classes)
    yield from islice(chain.from_iterable(rule(evidence) for rule in rules), 1)


def _of_positives(evidence: Evidence) -> Iterator[Finding]:
    """A `pos_weight` that makes common positives count more, or rare ones less."""
    for call in evidence.calls.losses:
        balanced = _balanced(evidence, call.pos_weight)
        if call.pos_weight is None or balanced is None:
            continue
        share, expected = balanced
        actual = call.pos_weight.double().cpu().flatten().clamp_min(1e-6).log().expand_as(expected)
        against = (expected * actual < 0) & (expected.abs() > _APART) & (actual.abs() > _APART)
        if int(against.sum()) * 2 <= len(against):
            continue
        place = int((expected * actual).argmin())
        yield CLASS_WEIGHTS.finding(
            severity="warning",
            where="pos_weight of the loss",
            measured=f"{percent(float(share[place]), 0)} of the "
            f"targets{f' of output {place}' if len(share) > 1 else ''} are positive, and pos_weight is "
            f"{float(actual[place].exp()):.3g}; the balanced one is {float(expected[place].exp()):.3g}",
            limit="a pos_weight and the balanced one on different sides of 1, each by a factor of two",
            why="The weight makes common targets count even more, so the network hardly ever predicts rare ones.",
            remedy="divide the number of negatives by that of positives: "
            "`nn.BCEWithLogitsLoss(pos_weight=(1 - y).sum(0) / y.sum(0))`",
        )
        return


def _of_outputs(evidence: Evidence) -> Iterator[Finding]:
    """A balanced `pos_weight` passed as `weight`, which weighs positives and negatives of an output alike."""
    for call in evidence.calls.losses:
        binary = call.name.startswith("binary") and call.pos_weight is None and len(call.target) > 1
        balanced = _balanced(evidence, call.weight) if binary else None
        if call.weight is None or balanced is None or call.weight.numel() != max(call.weight.shape[-1:], default=1):
            continue  # such as one weight per sample
        share, expected = balanced
        actual = call.weight.double().cpu().flatten().clamp_min(1e-6).log().expand_as(expected)
        place = int(expected.argmax())
        if float(expected[place]) < _APART or float((actual - expected).abs().max()) > _AS_BALANCED:
            continue
        yield CLASS_WEIGHTS.finding(
            severity="warning",
            where="weight of the loss",
            measured=f"{percent(float(share[place]), 0)} of the "
            f"targets{f' of output {place}' if len(share) > 1 else ''} are positive, and weight is "
            f"{float(actual[place].exp()):.3g}, the ratio of negatives to positives",
            limit="the weight of each output is the ratio of negatives to positives, within a factor of 1.5, and this "
            "is two or more for one of them",
            why="It multiplies the loss of positives and negatives alike, so rare positives count as little as before.",
            remedy="pass it as pos_weight: `nn.BCEWithLogitsLoss(pos_weight=(1 - y).sum(0) / y.sum(0))`",
        )
        return


def _balanced(evidence: Evidence, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The share of positive targets of each output (or of all together), and the logarithm of the weight that balances
    positives and negatives; None where `weight` is None or the targets are not 0 and 1."""
    y = evidence.samples.y
    if weight is None or y is None or not is_binary(y):
        return None
    columns = y.double().reshape(len(y), -1)
    if weight.numel() not in (1, columns.shape[1]):
        return None
    share = columns.mean(0).clamp(1e-3, 1 - 1e-3)
    return share, ((1 - share) / share).log()


def _weights(evidence: Evidence, counts: ClassCounts) -> torch.Tensor:
    """The class weights of the loss, or of a cross entropy in the step, or those measured by the gradients of the
    user's own loss. Raises NoEvidence where the loss weighs all classes alike."""
    loss = evidence.setup.loss
    known = [loss.weight] if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) else []
    known += [call.weight for call in evidence.calls.losses if call.name in CLASS_LOSSES]
    weights = next((weight for weight in known if isinstance(weight, torch.Tensor)), None)
    if weights is None and counts.positions is None:
        present = counts.train.nonzero().flatten()
        pulls = weights_of_classes(evidence, present)
        weights = torch.zeros(len(counts.train)).double().index_copy(0, present, pulls)
    if weights is None or bool((weights[weights > 0] == weights.max()).all()):
        raise NoEvidence("the loss has no class weights")
    return weights


def _of_classes(evidence: Evidence) -> Iterator[Finding]:
    try:
        classes = class_counts(evidence)
        weights = _weights(evidence, classes)
        if 2 * int(classes.train[len(weights) :].sum()) > int(classes.train.sum()):
            raise NoEvidence("most target numbers have no weight: they are indices, as of nodes, rather than classes")
    except NoEvidence:
        of_positions = _counts_of_positions(evidence)
        if of_positions is None:
            raise
        classes = of_positions
        weights = _weights(evidence, classes)
    counts = (classes.train if classes.positions is None else classes.positions).double()
    weights = weights.detach().cpu().double()
    size = min(len(counts), len(weights))
    counts, weights = counts[:size], weights[:size]
    seen = (counts > 0) & (weights > 0)
    counts, weights = counts[seen], weights[seen]
    if len(counts) < 3 and len(counts) != 2:
        return
    of_counts, of_weights = counts.log(), weights.log()
    if float(of_counts.max() - of_counts.min()) < torch.log(torch.tensor(_TIMES)):
        return
    if float(of_weights.max() - of_weights.min()) < 0.5:
        return
    correlation = float(torch.corrcoef(torch.stack([of_counts, of_weights]))[0, 1])
    if correlation < _LIKE:
        yield from _misplaced(counts, weights)
        return
    few, many = int(counts.argmin()), int(counts.argmax())
    yield CLASS_WEIGHTS.finding(
        severity="warning",
        where="the weights of the loss",
        measured=f"common classes have the larger weights (correlation {correlation:.2f}): "
        f"{weights[many]:.3g} for a class with {several(int(counts[many]), 'sample')}, {weights[few]:.3g} for one with "
        f"{int(counts[few])}",
        limit=f"logarithms of weights and counts that correlate by {_LIKE:g}, for counts that differ by a factor of "
        f"{_TIMES:g}",
        why="Class weights should favor rare classes. With these the network learns to predict the common ones.",
        remedy="use the inverse of the counts as weights: "
        "`nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts.float()))`",
    )


def _of_even_classes(evidence: Evidence) -> Iterator[Finding]:
    """Weights by which a class counts much more than another one that is about as frequent, or more so."""
    try:
        classes = class_counts(evidence)
    except NoEvidence:  # the rules above may have examined positions
        return
    present = classes.train.nonzero().flatten()
    weights = stated_weights(evidence, present) if classes.positions is None and len(present) > 1 else None
    if weights is None:
        return
    counts = classes.train[present].double()
    most, least = (int(place) for place in ((counts * weights).argmax(), (counts * weights).argmin()))
    ratio = float(counts[most] * weights[most] / (counts[least] * weights[least]))
    severity = imbalance_severity(ratio)
    if severity is None or imbalance_severity(float(counts[most] / counts[least])) is not None:
        return
    known, words = recall(evidence, int(present[least]))
    yield CLASS_WEIGHTS.finding(
        severity="note" if known is not None and known >= _FOUND else severity,
        where="the weights of the loss",
        measured=f"class {present[most]} counts {ratio:.0f} times as much as class {present[least]}: their weights are "
        f"{weights[most]:.3g} and {weights[least]:.3g}, with {counts[most]:,.0f} and "
        f"{several(int(counts[least]), 'sample')}{words}",
        limit=f"weights by which a class counts {IMBALANCED} times as much as another; a warning from "
        f"{VERY_IMBALANCED}; a note if {percent(_FOUND, 0)} of the other class are found in validation",
        why="The loss is lowest if the network predicts the class with the large weight wherever it is in doubt.",
        remedy="leave out the weights; if classes are rare, use the inverse of the counts: "
        "`nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts.float()))`",
    )


def _counts_of_positions(evidence: Evidence) -> ClassCounts | None:
    """Counts of the targets of a weighted loss in one step, where each position of a sample has a class, as tokens do;
    None without such a loss, or where there are too few targets."""
    for call in class_losses(evidence):
        if call.weight is not None:
            targets = call.target[(call.target != call.ignored) & (call.target >= 0)].flatten().cpu()
            if len(targets) >= _ENOUGH * len(call.weight):
                counts = torch.bincount(targets, minlength=len(call.weight))
                return ClassCounts(counts, None, None, counts)
    return None


def _misplaced(counts: torch.Tensor, weights: torch.Tensor) -> Iterator[Finding]:
    """Weights that balance the classes if they are sorted, but are assigned to the wrong classes."""
    for power in (1.0, 0.5):
        balanced = -power * counts.log()
        off, least = (
            expected - expected.mean() - actual + actual.mean()
            for expected, actual in ((balanced, weights.log()), (balanced.sort().values, weights.log().sort().values))
        )
        if float(least.abs().max()) > _NEAR or float(off.abs().max()) < _FAR:
            continue
        place = int(off.argmin())
        yield CLASS_WEIGHTS.finding(
            severity="warning",
            where="the weights of the loss",
            measured=f"the {several(len(counts), 'weight')} balance the classes, but in another order: a class with "
            f"{several(int(counts[place]), 'sample')} has {weights[place]:.3g} instead of "
            f"{float((balanced - balanced.mean() + weights.log().mean())[place].exp()):.3g}",
            limit=f"the balanced weights, within {_NEAR:g}, in another order",
            why="A common class counts like a rare one, and a rare class like a common one.",
            remedy="put the weights in the order of the class numbers: `counts = torch.bincount(labels)`, "
            "`nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts.float()))`",
        )
        return


CLASS_WEIGHTS = Check(
    codes=("loss.class-weights",),
    run=_run,
    explains="data.imbalance loss.degenerate model.collapsed",
)
