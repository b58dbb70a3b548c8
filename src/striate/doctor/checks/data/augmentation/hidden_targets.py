"""Numbers and labels that simple models tell of validation, and not of what augmentation leaves of training inputs."""

from __future__ import annotations

import torch

from striate.doctor.checks.data.augmentation.told import told
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import quality
from striate.doctor.evidence.simple_models import consult, related
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
    if min(len(x), len(plain_x)) < FEWEST or x.shape[1:] != plain_x.shape[1:] or not evidence.drawn_anew:
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
        f"predictions of simple models correlate with the targets of {several(len(x), 'training sample')} as they are "
        f"shown by {seen:.2f}, each left out, and with those of {several(len(plain_x), 'validation sample')} by "
        f"{there:.2f}",
        why="What is left after augmentation hardly shows the number that is asked for: a size is another one in a "
        "picture that is zoomed, a count in one that is cut.",
        remedy="leave out the change that the number does not follow, such as crops that are brought to full size; or "
        "change the number with it",
        threshold=f"simple models, whose answers correlate by {_TOLD:g} with a number in validation, leave "
        f"{_MORE_LEFT:g} times as much of its variance in training samples as they are shown",
    )


def label_hidden(evidence: Evidence, y: torch.Tensor, other: torch.Tensor) -> Finding | None:
    """One of several labels that simple models tell of validation samples, and not of training samples as they are
    drawn; nor has the network learned it."""
    x, plain_x, after = evidence.samples.sole_inputs, evidence.val_samples.sole_inputs, evidence.after_val
    if min(len(x), len(plain_x)) < FEWEST or x.shape[1:] != plain_x.shape[1:] or not evidence.drawn_anew:
        return None
    for label in range(y.shape[1]):
        shares = [float(part[:, label].double().mean()) for part in (y, other)]
        if min(shares) < _RARE or max(shares) > 1 - _RARE:
            continue
        plain = consult(plain_x, other[:, label], evidence.clock)
        there = _skill(plain.accuracy(plain.best[0]), shares[1])
        if there < _KNOWN:
            continue
        shown = consult(x, y[:, label], evidence.clock)
        seen = _skill(shown.accuracy(shown.best[0]), shares[0])
        if there - seen < GAP or seen > SHARE * there or after.outputs.shape[1:] != y.shape[1:]:
            continue
        right = (after.outputs[:, label] > 0).long() == other[: len(after.outputs), label]
        if _skill(float(right.double().mean()), shares[1]) > there - GAP:
            continue
        return told(
            "loader",
            f"of label {label} of {y.shape[1]} simple models tell {there:.0%} of what there is to know from "
            f"{several(len(plain_x), 'validation sample')}, and {max(seen, 0):.0%} from "
            f"{several(len(x), 'training sample')} as they are drawn, each from others",
            why="What is left after augmentation hardly shows this label: a person could not tell it either.",
            remedy="leave out the change that takes it away, such as channels in another order where colors tell the "
            "label",
            threshold=f"of what there is to know of a label, {_KNOWN:.0%} in validation by simple models, and "
            f"{GAP:.0%} less, and less than {SHARE:.0%} as much, in training samples as they are shown",
        )
    return None


def _skill(accuracy: float, share: float) -> float:
    """Of what there is to know of a label that this share of samples has: 0 for saying what is more frequent."""
    most = max(share, 1 - share)
    return (accuracy - most) / (1 - most)
