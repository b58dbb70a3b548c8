"""`loss.class-weights`: do the weights of a loss favor rare classes, and not the common ones?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.class_balance import class_counts
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

_LIKE, _TIMES = 0.8, 2.0


def _run(evidence: Evidence) -> Iterator[Finding]:
    loss = evidence.setup.loss
    weights = getattr(loss, "weight", None)
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or not isinstance(weights, torch.Tensor):
        raise NoEvidence("the loss has no weights of classes")
    found = class_counts(evidence)
    counts = (found.train if found.positions is None else found.positions).double()
    weights = weights.detach().cpu().double()
    size = min(len(counts), len(weights))
    counts, weights = counts[:size], weights[:size]
    seen = (counts > 0) & (weights > 0)
    counts, weights = counts[seen], weights[seen]
    if len(counts) < 3 and len(counts) != 2:
        return
    logs, others = counts.log(), weights.log()
    if float(logs.max() - logs.min()) < torch.log(torch.tensor(_TIMES)) or float(others.max() - others.min()) < 0.5:
        return
    like = float(torch.corrcoef(torch.stack([logs, others]))[0, 1])
    if like < _LIKE:
        return
    few, many = int(counts.argmin()), int(counts.argmax())
    yield Finding(
        code="loss.class-weights",
        severity="warning",
        where="the weights of the loss",
        measured=f"classes that are common have the larger weights (correlation {like:.2f}): "
        f"{weights[many]:.3g} for one with {several(int(counts[many]), 'sample')}, {weights[few]:.3g} for one with "
        f"{int(counts[few])}",
        threshold=CLASS_WEIGHTS.threshold,
        why="Weights are to make rare classes count; with these the network learns to name the common ones.",
        remedy="weights by the inverse of the counts: "
        "`nn.CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts.float()))`",
    )


CLASS_WEIGHTS = Check(
    codes=("loss.class-weights",),
    question="Do the weights of the loss favor rare classes?",
    threshold=f"logarithms of weights and counts that correlate by {_LIKE:g}, of counts that differ {_TIMES:g} times",
    run=_run,
    explains="data.imbalance",
)
