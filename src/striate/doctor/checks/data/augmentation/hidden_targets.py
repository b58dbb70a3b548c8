"""Numbers and labels that simple models tell of validation, and not of what augmentation leaves of training inputs."""

from __future__ import annotations

import torch

from striate.doctor.checks.data.augmentation.told import told
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import quality
from striate.doctor.evidence.simple_models import fit_simple_models, related
from striate.records import Finding
from striate.wording import several

FEWEST, GAP, SHARE = 100, 0.25, 0.7
"""Samples; how much less simple models tell of training inputs than of validation, and as a share of that."""
_LABELS, _RARE, _KNOWN = 20, 0.15, 0.4
"""Labels of a sample that are looked at; the share of samples that has one, or has it not; of what there is to know."""
_TOLD, _MORE_LEFT, _HALF = 0.8, 2.5, 0.5
"""Of a quantity: the correlation in validation; how much more is left unexplained of training; the part of the variance
that the network has not learned."""


def several_labels(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Labels of training and of validation (N, K), of which a sample may have several; None where it has one."""
    y, other = evidence.samples.y, evidence.val_samples.y
    if y is None or other is None or y.ndim != 2 or y.shape[1:] != other.shape[1:] or not 1 < y.shape[1] <= _LABELS:
        return None
    whole = torch.cat([y, other]).double()
    if not bool(((whole == 0) | (whole == 1)).all()) or bool((whole.sum(1) == 1).all()):
        return None
    return y.long(), other.long()


def number_hidden(evidence: Evidence) -> Finding | None:
    """A number that simple models tell of validation images, and much less of training images as they are drawn, as a
    size beside pictures that are zoomed; nor has the network learned it. Raises NoEvidence where none is asked for."""
    samples, val = evidence.samples, evidence.val_samples
    (x, y), (plain_x, plain_y) = ((part.sole_inputs, part.values) for part in (samples, val))
    if min(len(x), len(plain_x)) < FEWEST or x.shape[1:] != plain_x.shape[1:] or not evidence.inputs_vary:
        return None
    there = max(related(plain_x, plain_y, evidence.clock).models.values())
    after = quality(evidence.after_val.outputs, evidence.after_val.targets)
    if there < _TOLD or after is None or after.loss < _HALF * after.constant:
        return None
    seen = max(related(x, y, evidence.clock).models.values())
    if 1 - seen**2 < _MORE_LEFT * (1 - there**2):
        return None
    return told(
        "loader",
        f"held-out predictions of simple models correlate by {seen:.2f} with the targets of "
        f"{several(len(x), 'training sample')} after augmentation, and by {there:.2f} with those of "
        f"{several(len(plain_x), 'validation sample')}",
        why="After augmentation, samples hardly show the target: zooming changes a size, and cropping changes a count.",
        remedy="remove the change that the target does not follow, such as crops that are resized to full size, or "
        "change the target with it",
        threshold=f"simple models, whose predictions correlate by {_TOLD:g} with a target in validation, leave "
        f"{_MORE_LEFT:g} times as much of its variance unexplained in augmented training samples",
    )


def label_hidden(evidence: Evidence, y: torch.Tensor, other: torch.Tensor) -> Finding | None:
    """One of several labels that simple models tell of validation samples, and not of training samples as they are
    drawn; nor has the network learned it."""
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
        return told(
            "loader",
            f"for label {label} of {y.shape[1]}, held-out predictions of simple models get {there:.0%} of the way "
            f"from chance to perfect on {several(len(plain_x), 'validation sample')}, and {max(seen, 0):.0%} on "
            f"{several(len(x), 'training sample')} after augmentation",
            why="After augmentation, samples hardly show this label: a person could not tell it either.",
            remedy="remove the change that hides the label, such as permuted channels if colors tell the label",
            threshold=f"for a label, simple models get {_KNOWN:.0%} of the way from chance to perfect in "
            f"validation, and {GAP:.0%} less, and less than {SHARE:.0%} as far, in augmented training samples",
        )
    return None


def _skill(accuracy: float, share: float) -> float:
    """Of what there is to know of a label that this share of samples has: 0 for saying what is more frequent."""
    most = max(share, 1 - share)
    return (accuracy - most) / (1 - most)
