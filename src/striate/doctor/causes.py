"""Causes told from symptoms: which finding explains which, and which comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from striate.doctor.diagnosis import SEVERITIES
from striate.records import Finding

EXPLAINS: dict[str, str] = {
    "data.not-finite": "data.constant-images loss.* model.* optim.* fit.*",
    "data.label-range": (
        "data.imbalance data.label-noise data.labels-random data.missing-class loss.degenerate "
        "loss.not-finite loss.sign model.collapsed fit.*"
    ),
    "data.constant-images": (
        "data.duplicates data.label-noise data.labels-random data.leak data.too-few model.collapsed "
        "model.dead-units fit.*"
    ),
    "data.not-shuffled": (
        "data.imbalance data.missing-class loss.degenerate model.batch-norm-small-batch model.collapsed "
        "model.dead-units model.mode optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "data.scrambled": "data.constant-images data.labels-random data.shift model.receptive-field fit.*",
    "data.missing-class": "data.imbalance data.shift fit.*",
    "data.not-normalized": (
        "loss.initial-off loss.not-finite model.collapsed model.dead-units model.exploding-gradient "
        "model.saturated model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "data.label-map": "data.shift fit.*",
    "data.shift": "model.mode fit.*",
    "data.labels-random": (
        "data.label-noise data.shift loss.initial-off loss.not-finite model.collapsed model.dead-units "
        "model.exploding-gradient model.saturated model.vanishing-gradient optim.lr-too-high "
        "optim.lr-too-low fit.*"
    ),
    "data.duplicates": "data.label-noise data.too-few fit.overfit",
    "data.imbalance": "data.labels-random loss.degenerate model.collapsed fit.*",
    "data.label-noise": "fit.*",
    "data.too-few": "data.label-noise fit.overfit",
    "loss.not-finite": "model.* optim.* fit.*",
    "loss.broadcast": "loss.degenerate model.collapsed optim.lr-too-high optim.lr-too-low fit.*",
    "loss.wrong-for-task": (
        "data.label-range loss.degenerate loss.initial-off loss.not-finite loss.sign model.collapsed "
        "model.dead-units model.exploding-gradient model.vanishing-gradient optim.lr-too-high "
        "optim.lr-too-low optim.no-step fit.*"
    ),
    "loss.sign": (
        "loss.degenerate loss.initial-off loss.not-finite model.collapsed model.dead-units "
        "model.exploding-gradient model.saturated optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "loss.degenerate": (
        "model.collapsed model.dead-units model.vanishing-gradient optim.lr-too-low optim.no-step fit.*"
    ),
    "loss.initial-off": "fit.plateau fit.underfit",
    "model.graph-detached": (
        "loss.degenerate model.collapsed model.frozen-parameters model.redundant-filters "
        "model.unused-parameters model.vanishing-gradient optim.gradient-wrong optim.lr-too-low "
        "optim.no-step optim.parameters-missing fit.*"
    ),
    "model.unregistered-parameters": (
        "model.collapsed model.mode model.redundant-filters model.unused-parameters "
        "model.vanishing-gradient optim.lr-too-high optim.lr-too-low optim.parameters-missing fit.*"
    ),
    "model.frozen-parameters": (
        "model.collapsed model.redundant-filters model.vanishing-gradient optim.lr-too-low optim.no-step "
        "optim.parameters-missing fit.*"
    ),
    "model.double-softmax": (
        "loss.degenerate loss.initial-off model.collapsed model.last-layer-clipped model.saturated "
        "model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "model.last-layer-clipped": (
        "loss.degenerate loss.initial-off model.collapsed model.dead-units model.saturated "
        "model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "model.mode": "loss.initial-off model.batch-mixing optim.lr-too-high fit.*",
    "model.batch-norm-small-batch": (
        "model.collapsed model.mode model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "model.batch-mixing": "model.collapsed model.redundant-filters model.vanishing-gradient optim.lr-too-low fit.*",
    "model.no-nonlinearity": (
        "model.collapsed model.receptive-field model.redundant-filters model.vanishing-gradient optim.lr-too-low fit.*"
    ),
    "model.dropout-too-high": (
        "model.collapsed model.dead-units model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "model.shared-weights": "fit.*",
    "model.symmetric-init": (
        "model.collapsed model.dead-units model.redundant-filters model.vanishing-gradient optim.lr-too-low fit.*"
    ),
    "model.exploding-gradient": (
        "loss.initial-off loss.not-finite model.collapsed model.saturated optim.lr-too-high fit.*"
    ),
    "model.saturated": "loss.initial-off model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*",
    "model.dead-units": (
        "model.collapsed model.redundant-filters model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "model.vanishing-gradient": "model.collapsed model.redundant-filters optim.lr-too-low fit.*",
    "model.too-small": (
        "model.collapsed model.dead-units model.receptive-field model.vanishing-gradient optim.lr-too-low fit.*"
    ),
    "model.shrinks-too-fast": (
        "model.collapsed model.dead-units model.receptive-field model.vanishing-gradient optim.lr-too-low fit.*"
    ),
    "model.receptive-field": "model.collapsed model.vanishing-gradient optim.lr-too-low fit.*",
    "model.collapsed": "model.redundant-filters optim.lr-too-low fit.*",
    "model.redundant-filters": "fit.*",
    "model.unused-parameters": "optim.parameters-missing",
    "optim.no-step": "model.collapsed optim.lr-too-low fit.*",
    "optim.missing-zero-grad": (
        "loss.not-finite model.collapsed model.dead-units optim.clip-too-small optim.lr-too-high fit.*"
    ),
    "optim.gradient-wrong": "loss.not-finite model.collapsed optim.lr-too-high optim.lr-too-low fit.*",
    "optim.parameters-missing": "model.collapsed model.too-small optim.lr-too-low fit.*",
    "optim.clip-too-small": "optim.lr-too-low fit.*",
    "optim.lr-schedule": "optim.lr-too-high optim.lr-too-low fit.*",
    "optim.weight-decay-too-high": (
        "model.collapsed model.dead-units model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
    "optim.lr-too-high": "loss.not-finite model.collapsed model.dead-units model.saturated fit.*",
    "optim.lr-too-low": "fit.*",
}
"""By code of a cause: what it brings about, divided by blanks. A finding that another one explains is listed under it.
`fit.*` stands for all codes of fit."""

_ORDER = """
    data.not-finite data.label-range loss.not-finite loss.broadcast loss.wrong-for-task loss.sign
    data.constant-images data.not-shuffled data.scrambled data.missing-class data.not-normalized data.label-map
    data.shift data.labels-random data.leak loss.degenerate model.graph-detached model.unregistered-parameters
    model.frozen-parameters model.double-softmax model.last-layer-clipped model.mode model.batch-norm-small-batch
    model.batch-mixing model.no-nonlinearity model.dropout-too-high model.shared-weights optim.no-step
    optim.missing-zero-grad optim.gradient-wrong optim.parameters-missing model.symmetric-init
    optim.clip-too-small optim.lr-schedule optim.weight-decay-too-high model.exploding-gradient model.saturated
    model.dead-units model.vanishing-gradient model.too-small model.shrinks-too-fast model.receptive-field
    model.collapsed optim.lr-too-high optim.lr-too-low
"""
FIRST = tuple(_ORDER.split())
"""Codes from the most certain and fundamental to what only shows itself; others follow in the order they were found."""


def sort_out(findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], dict[str, tuple[Finding, ...]]]:
    """The findings that stand for themselves, errors first, and by code of a cause what follows from it."""
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
    # What brings about an error is no smaller matter.
    graver = [_as_grave(root, follows[root.code]) for root in roots]
    return tuple(sorted(graver, key=_rank)), {code: others for code, others in follows.items() if others}


def cause_of_all(codes: Sequence[str], found: Sequence[Finding]) -> str:
    """The code of an error that explains each of `codes`, were it found; empty where there is none."""
    errors = (finding.code for finding in found if finding.severity == "error")
    return next((error for error in errors if all(_explains(error, code) for code in codes)), "")


def _as_grave(root: Finding, follows: Sequence[Finding]) -> Finding:
    worst = min((root, *follows), key=lambda finding: SEVERITIES.index(finding.severity))
    return replace(root, severity=worst.severity)


def _leads_to(causes: dict[str, str], code: str, cause: str) -> bool:
    """Whether `cause` is among the causes of `code`, near or far."""
    while code in causes:
        code = causes[code]
        if code == cause:
            return True
    return False


def _explains(code: str, other: str) -> bool:
    return any(
        other == pattern or (pattern.endswith(".*") and other.startswith(pattern[:-1]))
        for pattern in EXPLAINS.get(code, "").split()
    )


def _rank(finding: Finding) -> tuple[int, int]:
    place = FIRST.index(finding.code) if finding.code in FIRST else len(FIRST)
    return SEVERITIES.index(finding.severity), place
