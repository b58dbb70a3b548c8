"""Which findings explain other findings, and the order of findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from striate.doctor.checks.every import every_check
from striate.records import SEVERITIES, Finding

EXPLAINS: dict[str, frozenset[str]] = {
    code: frozenset(chain.from_iterable(check.explained_by(code) for check in every_check() if code in check.codes))
    for code in chain.from_iterable(check.codes for check in every_check())
}
"""By code of a cause, the codes of its symptoms, as its checks declare them. A finding that another one explains is
listed under it. `fit.*` stands for all codes of fit."""

_ORDER = """
    data.not-finite data.label-range optim.missing-zero-grad
    loss.not-finite loss.broadcast loss.wrong-for-task loss.sign
    data.constant-images data.not-shuffled data.scrambled data.too-few data.missing-class data.target-scale
    data.not-normalized data.augmentation data.label-map
    reward.never-seen reward.terminal-lost reward.off-by-one reward.target-stale reward.no-exploration
    reward.endless reward.truncated-terminal reward.scale
    data.shift data.targets-left-behind data.target-in-input data.step-labels data.labels-random
    data.leak data.split-overlap
    loss.class-weights loss.ignored-class loss.padding-counted
    loss.pairs-swapped loss.degenerate model.sees-future model.attends-padding model.graph-detached
    model.unregistered-parameters model.order-ignored
    model.weights-not-loaded model.frozen-parameters model.evaluates-untrained
    model.double-softmax model.last-layer-clipped model.mode model.batch-norm-small-batch
    model.batch-mixing model.no-nonlinearity model.dropout-too-high model.shared-weights optim.no-step
    optim.gradient-wrong optim.parameters-missing model.symmetric-init
    optim.low-precision optim.accumulation optim.state-lost
    optim.scaler-order optim.clip-order optim.clip-too-small optim.scheduler-calls optim.lr-schedule
    optim.weight-decay-too-high model.exploding-gradient model.saturated
    model.dead-units model.vanishing-gradient model.too-small model.shrinks-too-fast model.receptive-field
    model.collapsed optim.lr-too-high optim.lr-too-low
    eval.mode eval.wrong-axis eval.threshold eval.wrong-count eval.batch-means eval.worst-kept data.random-validation
    data.same-order
"""
FIRST = tuple(_ORDER.split())
"""Codes in the order of findings, from certain, fundamental causes to mere symptoms; other codes follow in the order in
which they were found."""


def sort_out(findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], dict[str, tuple[Finding, ...]]]:
    """The findings that no other finding explains, errors first; and by code of a cause, the findings it explains."""
    ranked = sorted(findings, key=_rank)
    causes: dict[str, str] = {}
    for finding in ranked:
        for other in ranked:
            explained = other is not finding and finding.severity != "note" and _explains(finding.code, other.code)
            if explained and other.code not in causes and not _leads_to(causes, finding.code, other.code):
                causes[other.code] = finding.code
    roots = [finding for finding in ranked if finding.code not in causes]
    follows = {
        root.code: tuple(other for other in ranked if _leads_to(causes, other.code, root.code)) for root in roots
    }
    # A cause is at least as severe as the findings that it explains.
    graver = [_as_grave(root, follows[root.code]) for root in roots]
    return tuple(sorted(graver, key=_rank)), {code: others for code, others in follows.items() if others}


def cause_of_all(codes: Sequence[str], found: Sequence[Finding]) -> str:
    """The code of an error among `found` that would explain findings of all `codes`; empty where there is none."""
    errors = (finding.code for finding in found if finding.severity == "error")
    return next((error for error in errors if all(_explains(error, code) for code in codes)), "")


def _as_grave(root: Finding, follows: Sequence[Finding]) -> Finding:
    worst = min((root, *follows), key=lambda finding: SEVERITIES.index(finding.severity))
    return replace(root, severity=worst.severity)


def _leads_to(causes: dict[str, str], code: str, cause: str) -> bool:
    """Whether `cause` is a direct or indirect cause of `code`."""
    while code in causes:
        code = causes[code]
        if code == cause:
            return True
    return False


def _explains(code: str, other: str) -> bool:
    return any(
        other == pattern or (pattern.endswith(".*") and other.startswith(pattern[:-1]))
        for pattern in EXPLAINS.get(code, ())
    )


def _rank(finding: Finding) -> tuple[int, int]:
    place = FIRST.index(finding.code) if finding.code in FIRST else len(FIRST)
    return SEVERITIES.index(finding.severity), place
