"""Classes that the loader yields far too seldom."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from striate.data.audit.classes import IMBALANCE_THRESHOLD, VERY_IMBALANCED, imbalance_severity
from striate.doctor.checks.check import Check
from striate.doctor.checks.data.class_counts import class_counts
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding, Remedy

_SEEN, _SEEN_OF_A_PART = 10, 30
"""Samples of the commonest class: of the few that are read of a large loader, rare classes have none by chance."""
THRESHOLD = f"{IMBALANCE_THRESHOLD}; weights of classes in the loss count"


def _run(evidence: Evidence) -> Iterable[Finding]:
    counted = class_counts(evidence)
    if counted.positions is not None:
        return _of_positions(evidence, counted.positions)
    return _of_samples(evidence, counted.train)


def _of_positions(evidence: Evidence, counts: torch.Tensor) -> Iterable[Finding]:
    """Maps have large and small things: only what the network does not find at all is told."""
    present = counts.nonzero().flatten()
    if len(present) < 2:
        return
    most, least = int(present[counts[present].argmax()]), int(present[counts[present].argmin()])
    ratio = float(counts[most] / counts[least])
    found, words = _recall(evidence, least)
    if ratio < VERY_IMBALANCED or found is None or found >= 0.5:
        return
    yield Finding(
        code="data.imbalance",
        severity="note",
        where="training loader",
        measured=f"{ratio:.0f} times as many positions of class {most} as of class {least} "
        f"({int(counts[least]):,}){words.replace('samples', 'positions')}",
        threshold=THRESHOLD,
        why="The network does best by hardly ever answering the rare class; the share of right positions looks good.",
        remedy="Weigh the loss: `CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))`, or cut the images "
        "around what is rare. Report the IoU of each class.",
    )


def _of_samples(evidence: Evidence, counts: torch.Tensor) -> Iterable[Finding]:
    present = counts.nonzero().flatten()
    if len(present) < 2:
        return
    weighed = counts[present].double() * _weights(evidence, present)
    most, least = int(present[weighed.argmax()]), int(present[weighed.argmin()])
    ratio = float(weighed.max() / weighed.min().clamp_min(1e-12))
    severity = imbalance_severity(ratio)
    if severity is None or int(counts[most]) < (_SEEN if evidence.train.whole else _SEEN_OF_A_PART):
        return
    _, words = _recall(evidence, least)
    evidence.pictures["data.imbalance"] = Picture(
        "bars",
        "Samples of each class",
        {"samples": tuple(map(float, counts.tolist()))},
        labels=tuple(map(str, range(len(counts)))),
    )
    yield Finding(
        code="data.imbalance",
        severity=severity,
        where="training loader",
        measured=f"{ratio:.0f} times as much of class {most} ({int(counts[most]):,} samples) as of class {least} "
        f"({int(counts[least]):,}){words}",
        threshold=THRESHOLD,
        why="The network does best by hardly ever answering the rare class; the accuracy looks good all the same.",
        remedy=Remedy(
            "Draw the classes alike: `WeightedRandomSampler(1 / counts[y].double(), len(y))` as the loader's "
            "sampler, or "
            "weigh the loss: `CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))`. Report the accuracy "
            "of each class.",
            settings={"task.class_weights": "balanced"},
            advice="more samples of the rare class",
        ),
    )


def _weights(evidence: Evidence, classes: torch.Tensor) -> torch.Tensor:
    """How strongly the loss pulls for a sample of each class, by its gradient at answers of zero; ones where that is
    not known."""
    even = torch.ones(len(classes)).double()
    outputs = evidence.first.loss_outputs
    y = evidence.samples.y
    if not isinstance(outputs, torch.Tensor) or y is None or y.ndim > 2 or evidence.samples.plain is False:
        return even
    rows = torch.stack([(evidence.samples.labels == k).nonzero()[0, 0] for k in classes])
    share = bool(((outputs >= 0) & (outputs <= 1)).all())
    middle = 1 / outputs.shape[1] if share and outputs.ndim > 1 and outputs.shape[1] > 1 else 0.5 if share else 0.0
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


def _recall(evidence: Evidence, rare: int) -> tuple[float | None, str]:
    """The share of the rare class that the trial's network finds, where there are some of it: in validation, else in
    training."""
    for name in ("after_val", "after"):
        try:
            told = getattr(evidence, name)
            answered = told.predictions
        except NoEvidence:
            continue
        wanted = told.targets.reshape(answered.shape) == rare
        if int(wanted.sum()) >= 5:
            found = float((answered[wanted] == rare).double().mean())
            part = "validation" if name == "after_val" else "training"
            return found, f"; after {len(evidence.trial.rows)} steps {found:.0%} of its {part} samples are found"
    return None, ""


CHECK = Check(
    codes=("data.imbalance",),
    question="Does the loader yield classes in fair shares?",
    threshold=THRESHOLD,
    run=_run,
    explains="data.labels-random loss.degenerate model.collapsed fit.*",
)
