"""`loss.pairs-swapped`: does the loss pull together what belongs together?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

CODE = "loss.pairs-swapped"
_FEWEST = 60
"""Pairs of each kind."""
_ERRORS = 4.0
"""Standard errors below an even chance: of 10,000 healthy setups none, were inputs by chance."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    pulled, pushed = evidence.pairs
    if min(len(pulled), len(pushed)) < _FEWEST:
        raise NoEvidence("no loss pulls some pairs of embeddings together and pushes others apart")
    nearer, error = _nearer(pulled, pushed)
    if nearer > 0.5 - _ERRORS * error:
        return
    yield Finding(
        code=CODE,
        severity="error",
        where="the loss",
        measured=f"it pulls {several(len(pulled), 'pair')} of embeddings together and pushes {len(pushed)} apart, and "
        f"the inputs of those it pulls are nearer to each other in only {nearer:.0%} of comparisons",
        threshold=CHECK.threshold,
        why="Equal and different, or positive and negative, are exchanged: what is alike ends far apart.",
        remedy="anchor, positive, negative in this order: `nn.TripletMarginLoss()(anchor, positive, negative)`; of "
        "pairs the label of equal ones where the loss pulls: `nn.CosineEmbeddingLoss()(a, b, 2 * same.float() - 1)`",
    )


def _nearer(pulled: torch.Tensor, pushed: torch.Tensor) -> tuple[float, float]:
    """How often a pulled pair is nearer than a pushed one (the area under the ROC curve), and its standard error where
    there is no difference (Mann and Whitney 1947)."""
    m, n = len(pulled), len(pushed)
    less = (pulled[:, None] < pushed[None]).double().mean() + 0.5 * (pulled[:, None] == pushed[None]).double().mean()
    return float(less), float(((m + n + 1) / (12 * m * n)) ** 0.5)


CHECK = Check(
    codes=(CODE,),
    question="Does the loss pull together what belongs together?",
    threshold=f"inputs of pairs that the gradient pulls together lie farther apart than those that it pushes apart, by "
    f"{_ERRORS:g} standard errors, {_FEWEST} pairs of each at least",
    run=_run,
    quick=False,
    explains="loss.sign loss.degenerate loss.wrong-for-task model.collapsed fit.* optim.lr-too-low",
)
