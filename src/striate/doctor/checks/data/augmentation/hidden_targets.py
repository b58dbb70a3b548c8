"""Targets that simple models predict in validation, but not in augmented training inputs."""

from __future__ import annotations

import torch

from striate.doctor.checks.data.augmentation.finding import augmentation_finding
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.simple_models import fit_simple_models, related
from striate.doctor.setup.batch import is_binary
from striate.records import Finding
from striate.wording import percent, several

FEWEST, GAP, SHARE = 100, 0.25, 0.7
"""The fewest samples; by how much the score of simple models in training is below that in validation, and its largest
share of that."""
_LABELS, _RARE, _KNOWN = 20, 0.15, 0.4
"""The most labels of a sample; the least share of samples with and without a label; the least skill of a simple
model."""
_CORRELATED, _MORE_LEFT, _HALF = 0.8, 2.5, 0.5
"""For numeric targets: the correlation in validation; how many times as much variance is left unexplained in training;
the share of the variance that the network has not learned."""


def several_labels(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Multi-label targets of training and of validation (N, K); None where each sample has one label."""
    y, other = evidence.samples.y, evidence.val_samples.y
    if y is None or other is None or y.ndim != 2 or y.shape[1:] != other.shape[1:] or not 1 < y.shape[1] <= _LABELS:
        return None
    whole = torch.cat([y, other]).double()
    if not is_binary(whole) or bool((whole.sum(1) == 1).all()):
        return None
    return y.long(), other.long()


def number_hidden(evidence: Evidence) -> Finding | None:
    """A numeric target that simple models predict from validation images, but much less from augmented training images
    (such as a size of objects in zoomed images), and that the network has not learned. Raises NoEvidence without
    numeric targets."""
    samples, val = evidence.samples, evidence.val_samples
    (x, y), (plain_x, plain_y) = ((part.sole_inputs, part.values) for part in (samples, val))
    if min(len(x), len(plain_x)) < FEWEST or x.shape[1:] != plain_x.shape[1:] or not evidence.inputs_vary:
        return None
    there = max(related(plain_x, plain_y, evidence.clock).models.values())
    after = evidence.after_val.quality
    if there < _CORRELATED or after is None or after.loss < _HALF * after.constant:
        return None
    seen = max(related(x, y, evidence.clock).models.values())
    if 1 - seen**2 < _MORE_LEFT * (1 - there**2):
        return None
    return augmentation_finding(
        "loader",
        f"held-out predictions of simple models correlate by {seen:.2f} with the targets of "
        f"{several(len(x), 'training sample')} after augmentation, and by {there:.2f} with those of "
        f"{several(len(plain_x), 'validation sample')}",
        why="After augmentation, samples hardly show the target: zooming changes a size, and cropping changes a count.",
        remedy="remove the change that the target does not follow, such as crops that are resized to full size, or "
        "change the target with it",
        threshold=f"simple models, whose predictions correlate by {_CORRELATED:g} with a target in validation, leave "
        f"{_MORE_LEFT:g} times as much of its variance unexplained in augmented training samples",
    )


def label_hidden(evidence: Evidence, y: torch.Tensor, other: torch.Tensor) -> Finding | None:
    """One of several labels that simple models predict in validation, but not in augmented training samples, and that
    the network has not learned."""
    x, plain_x, after = evidence.samples.sole_inputs, evidence.val_samples.sole_inputs, evidence.after_val
    if min(len(x), len(plain_x)) < FEWEST or x.shape[1:] != plain_x.shape[1:] or not evidence.inputs_vary:
        return None
    for label in range(y.shape[1]):
        shares = [float(part[:, label].double().mean()) for part in (y, other)]
        if min(shares) < _RARE or max(shares) > 1 - _RARE:
            continue
        plain = fit_simple_models(plain_x, other[:, label], evidence.clock)
        there = _skill(plain.accuracy(plain.best[0]), shares[1])
        if there < _KNOWN:
            continue
        shown = fit_simple_models(x, y[:, label], evidence.clock)
        seen = _skill(shown.accuracy(shown.best[0]), shares[0])
        if there - seen < GAP or seen > SHARE * there or after.outputs.shape[1:] != y.shape[1:]:
            continue
        right = (after.outputs[:, label] > 0).long() == other[: len(after.outputs), label]
        if _skill(float(right.double().mean()), shares[1]) > there - GAP:
            continue
        return augmentation_finding(
            "loader",
            f"for label {label} of {y.shape[1]}, held-out predictions of simple models get {percent(there, 0)} of the "
            f"way from chance to perfect on {several(len(plain_x), 'validation sample')}, and "
            f"{percent(max(seen, 0), 0)} on {several(len(x), 'training sample')} after augmentation",
            why="After augmentation, samples hardly show this label: a person could not tell it either.",
            remedy="remove the change that hides the label, such as permuted channels if colors tell the label",
            threshold=f"for a label, simple models get {percent(_KNOWN, 0)} of the way from chance to perfect in "
            f"validation, and {percent(GAP, 0)} less, and less than {percent(SHARE, 0)} as far, in augmented training "
            "samples",
        )
    return None


def _skill(accuracy: float, share: float) -> float:
    """The skill of an accuracy for a label that `share` of the samples have: 0 for always predicting the more frequent
    value, 1 for a perfect one."""
    most = max(share, 1 - share)
    return (accuracy - most) / (1 - most)
