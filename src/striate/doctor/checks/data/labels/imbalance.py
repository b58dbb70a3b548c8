"""`data.imbalance`: does the loader yield each class often enough?"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import torch

from striate.data.audit.classes import IMBALANCE_THRESHOLD, VERY_IMBALANCED, imbalance_severity
from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.class_counts import class_counts, need_used_targets
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.calls import watch_steps
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import are_read_as_probabilities
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.doctor.setup.recorded_iterators import has_own_batch_sampler
from striate.records import Finding, Remedy
from striate.wording import percent, several

_SEEN, _SEEN_OF_A_PART = 10, 30
"""The fewest samples of the most frequent class: in the first batches of a large loader, rare classes may be missing by
chance."""
_FOUND, _FOUND_BY_RATIO, _LESS = 0.9, 0.05, 0.05
"""The share of the rare class that the network has to find for a note: this, or less the less rare the class is."""
_LIMIT = (
    f"{IMBALANCE_THRESHOLD}; class weights count; a note if the network finds {percent(_FOUND_BY_RATIO, 0)} "
    f"of the rare class times the ratio ({percent(_FOUND, 0)} at most) in validation, or as many as are right of all "
    f"training samples, less {_LESS:g}"
)


def _find_imbalance(evidence: Evidence) -> Iterable[Finding]:
    counted = class_counts(evidence)
    if counted.positions is not None:
        return _of_positions(evidence, counted.positions)
    if has_own_batch_sampler(evidence.setup.train):
        raise NoEvidence("a custom sampler makes the batches")
    return _of_samples(evidence, counted.train)


def _of_positions(evidence: Evidence, counts: torch.Tensor) -> Iterable[Finding]:
    """Class maps have large and small objects: report only classes that the network does not find."""
    present = counts.nonzero().flatten()
    if len(present) < 2:
        return
    most, least = int(present[counts[present].argmax()]), int(present[counts[present].argmin()])
    ratio = float(counts[most] / counts[least])
    found, words = recall(evidence, least)
    if ratio < VERY_IMBALANCED or found is None or found >= 0.5:
        return
    yield IMBALANCE.finding(
        severity="note",
        where="training loader",
        measured=f"{ratio:.0f} times as many positions of class {most} as of class {least} "
        f"({int(counts[least]):,}){words.replace('samples', 'positions')}",
        why="The loss is lowest if the network hardly ever predicts the rare class, and pixel accuracy still looks "
        "good.",
        remedy="Weight the loss: `CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))`, or crop the "
        "images around the rare class. Report the IoU of each class.",
    )


def _of_samples(evidence: Evidence, counts: torch.Tensor) -> Iterable[Finding]:
    present = counts.nonzero().flatten()
    if len(present) < 2:
        return
    weights = weights_of_classes(evidence, present)
    weighed = counts[present].double() * weights
    most, least = int(present[weighed.argmax()]), int(present[weighed.argmin()])
    ratio = float(weighed.max() / weighed.min().clamp_min(1e-12))
    severity, frequency = imbalance_severity(ratio), float(counts[most] / counts[least])
    if severity is None or int(counts[most]) < (_SEEN if evidence.train.whole else _SEEN_OF_A_PART):
        return
    if imbalance_severity(frequency) is None:
        return  # the weights of the loss make the difference, which `loss.class-weights` reports
    need_used_targets(evidence)
    known, words = recall(evidence, least)
    if known is not None and known >= min(_FOUND, _FOUND_BY_RATIO * ratio, _as_others(evidence)):
        severity = "note"
    weighted = "" if bool((weights == weights[0]).all()) else f", {ratio:.0f} times with the weights of the loss"
    evidence.pictures["data.imbalance"] = Picture(
        "bars",
        "Samples of each class",
        {"samples": tuple(map(float, counts.tolist()))},
        labels=tuple(map(str, range(len(counts)))),
    )
    yield IMBALANCE.finding(
        severity=severity,
        where="training loader",
        measured=f"class {most} is {frequency:.0f} times as frequent ({several(int(counts[most]), 'sample')}) as class "
        f"{least} ({int(counts[least]):,}){weighted}{words}",
        why="The loss is lowest if the network hardly ever predicts the rare class, and the accuracy still looks good.",
        remedy=Remedy(
            "Sample the classes equally: `WeightedRandomSampler(1 / counts[y].double(), len(y))` as the loader's "
            "sampler, or weight the loss: `CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))`. Report "
            "the accuracy of each class.",
            settings={"task.class_weights": "balanced"},
            advice="more samples of the rare class",
        ),
    )


def _as_others(evidence: Evidence) -> float:
    """The recall of a class that is found nearly as often as samples are predicted right."""
    with suppress(NoEvidence):
        return evidence.after.accuracy - _LESS
    return 1.0


def weights_of_classes(evidence: Evidence, classes: torch.Tensor) -> torch.Tensor:
    """The weight of a sample of each class in the loss, by its gradient at outputs of zero; ones where unknown."""
    if (stated := stated_weights(evidence, classes)) is not None:
        return stated
    even = torch.ones(len(classes)).double()
    outputs = evidence.first.loss_outputs
    y = evidence.samples.y
    if not isinstance(outputs, torch.Tensor) or y is None or y.ndim > 2 or evidence.samples.plain is False:
        return even
    rows = torch.stack([(evidence.samples.labels == k).nonzero()[0, 0] for k in classes])
    middle = 0.0
    if are_read_as_probabilities(evidence, outputs):
        middle = 1 / outputs.shape[1] if outputs.ndim > 1 and outputs.shape[1] > 1 else 0.5
    zeros = torch.full((len(rows), *outputs.shape[1:]), middle, dtype=outputs.dtype, device=outputs.device)
    zeros.requires_grad_()
    try:
        evidence.fresh.loss(zeros, y[rows].to(outputs.device)).sum().backward()
    except Exception:  # a loss of the user's, that may want more than this
        return even
    pull = zeros.grad
    if pull is None:
        return even
    norms = pull.detach().double().reshape(len(rows), -1).norm(dim=1).cpu()
    return norms / norms.mean() if bool((norms > 0).all()) and bool(torch.isfinite(norms).all()) else even


def stated_weights(evidence: Evidence, classes: torch.Tensor) -> torch.Tensor | None:
    """The weight of a sample of each class by the weights that torch's losses get in the step; None without such."""
    for place, call in enumerate(evidence.calls.losses):
        alone = call.name not in CLASS_LOSSES and call.target.numel() == len(call.target)
        given = None if alone else call.weight
        if given is not None and len(given) > int(classes.max()) and bool((given > 0).all()):
            return given.detach().cpu().double()[classes]
        if (weights := _weights_of_samples(evidence, place, classes)) is not None:
            return weights
    return None


_STEPS = 32
"""Steps, so that some contain samples of a rare class."""


def _weights_of_samples(evidence: Evidence, place: int, classes: torch.Tensor) -> torch.Tensor | None:
    """The mean weight of samples of each class in the `place`-th loss that the step calls, if that loss gets the labels
    and weights them; else None."""
    call = evidence.calls.losses[place]
    first_targets, labels = call.target.flatten().cpu(), evidence.samples.labels
    weighed = call.entry_gradients or call.weight is not None or call.pos_weight is not None
    if (
        not weighed
        or len(first_targets) != len(call.target)
        or not torch.equal(first_targets.long(), labels[: len(first_targets)])
    ):
        return None
    steps = watch_steps(evidence.setup, evidence.train.raw[:_STEPS], evidence.clock.until(0.05))
    calls = [step.losses[place] for step in steps if len(step.losses) > place]
    targets = torch.cat([call.target.flatten() for call in calls]).cpu()
    weights = torch.cat([call.weights.flatten() for call in calls]).cpu()
    found = torch.stack([weights[targets == k].mean() for k in classes])
    return found if bool((found > 0).all()) else None


def recall(evidence: Evidence, rare: int) -> tuple[float | None, str]:
    """The recall of the rare class, by the trial's network in validation (or in training, if validation has too few),
    and that in words."""
    for name in ("after_val", "after"):
        try:
            predictions = getattr(evidence, name)
            predicted = predictions.predicted
        except NoEvidence:
            continue
        is_rare = predictions.targets.reshape(predicted.shape) == rare
        if int(is_rare.sum()) >= 5:
            found = float((predicted[is_rare] == rare).double().mean())
            part = "validation" if name == "after_val" else "training"
            return (
                found,
                f"; after {several(len(evidence.trial.rows), 'step')} {percent(found, 0)} of its {part} samples are "
                "found",
            )
    return None, ""


IMBALANCE = Check(
    codes=("data.imbalance",),
    threshold=_LIMIT,
    run=_find_imbalance,
    explains="data.labels-random loss.degenerate model.collapsed fit.*",
)
