"""Causes told from symptoms: which finding explains which, and which comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from striate.doctor.diagnosis import SEVERITIES
from striate.records import Finding

EXPLAINS: dict[str, tuple[str, ...]] = {
    "data.not-finite": ("loss.not-finite", "optim.lr-too-high", "model.collapsed", "model.exploding-gradient"),
    "data.not-normalized": ("loss.initial-off",),
    "loss.not-finite": ("model.*", "optim.*", "fit.*"),
    "loss.broadcast": ("loss.degenerate", "model.collapsed", "optim.lr-too-high", "optim.lr-too-low", "fit.*"),
    "loss.wrong-for-task": (
        *("loss.degenerate", "loss.initial-off", "loss.sign", "loss.not-finite", "data.label-range"),
        *("model.collapsed", "model.vanishing-gradient", "model.dead-units", "model.exploding-gradient"),
        *("optim.lr-too-high", "optim.lr-too-low", "optim.no-step", "fit.*"),
    ),
    "loss.sign": (
        *("loss.degenerate", "loss.not-finite", "loss.initial-off", "optim.lr-too-high", "optim.lr-too-low"),
        *("model.collapsed", "model.exploding-gradient", "model.dead-units", "model.saturated", "fit.*"),
    ),
    "loss.degenerate": (
        *("model.collapsed", "model.vanishing-gradient", "model.dead-units", "optim.lr-too-low", "optim.no-step"),
        "fit.*",
    ),
    "loss.initial-off": ("fit.plateau", "fit.underfit"),
    "optim.no-step": ("optim.lr-too-low", "model.collapsed", "fit.*"),
    "optim.missing-zero-grad": (
        "optim.lr-too-high",
        "optim.clip-too-small",
        "loss.not-finite",
        "model.dead-units",
        "model.collapsed",
        "fit.*",
    ),
    "optim.gradient-wrong": ("optim.lr-too-high", "optim.lr-too-low", "model.collapsed", "loss.not-finite", "fit.*"),
    "optim.parameters-missing": ("optim.lr-too-low", "model.collapsed", "model.too-small", "fit.*"),
    "optim.clip-too-small": ("optim.lr-too-low", "fit.*"),
    "optim.lr-schedule": ("optim.lr-too-low", "optim.lr-too-high", "fit.*"),
    "optim.weight-decay-too-high": (
        "optim.lr-too-high",
        "optim.lr-too-low",
        "model.vanishing-gradient",
        "model.dead-units",
        "model.collapsed",
        "fit.*",
    ),
    "optim.lr-too-high": ("loss.not-finite", "model.dead-units", "model.collapsed", "model.saturated", "fit.*"),
    "optim.lr-too-low": ("fit.*",),
    "model.symmetric-init": (
        "model.redundant-filters",
        "model.dead-units",
        "model.collapsed",
        "model.vanishing-gradient",
        "optim.lr-too-low",
        "fit.*",
    ),
    "model.exploding-gradient": (
        "loss.initial-off",
        "loss.not-finite",
        "optim.lr-too-high",
        "model.saturated",
        "model.collapsed",
        "fit.*",
    ),
    "model.saturated": (
        "model.vanishing-gradient",
        "optim.lr-too-low",
        "optim.lr-too-high",
        "loss.initial-off",
        "fit.*",
    ),
    "model.dead-units": (
        "model.vanishing-gradient",
        "model.redundant-filters",
        "model.collapsed",
        "optim.lr-too-low",
        "optim.lr-too-high",
        "fit.*",
    ),
    "model.vanishing-gradient": ("optim.lr-too-low", "model.collapsed", "model.redundant-filters", "fit.*"),
    "model.collapsed": ("optim.lr-too-low", "model.redundant-filters", "fit.*"),
    "model.redundant-filters": ("fit.*",),
}
"""By code of a cause: what it brings about. A finding that is explained by another one is listed under it. `data.*`
stands for all codes of data."""

for _code in (
    *("data.labels-random", "data.not-normalized", "data.constant-images", "data.scrambled", "data.label-map"),
    *("data.label-range", "data.not-shuffled"),
    *("model.double-softmax", "model.no-nonlinearity", "model.frozen-parameters", "model.too-small", "model.mode"),
    *("model.shrinks-too-fast", "model.receptive-field", "model.batch-norm-small-batch", "model.batch-mixing"),
    *("model.unregistered-parameters", "model.dropout-too-high", "model.graph-detached", "model.last-layer-clipped"),
):
    EXPLAINS[_code] = (*EXPLAINS.get(_code, ()), "fit.underfit", "fit.plateau", "fit.cannot-overfit-batch")
for _code in ("data.labels-random", "data.label-noise", "data.label-map", "data.shift", "data.missing-class"):
    EXPLAINS[_code] = (*EXPLAINS.get(_code, ()), "fit.overfit")

_UNTRAINABLE = (
    *("optim.lr-too-high", "optim.lr-too-low", "loss.initial-off", "loss.not-finite", "model.collapsed"),
    *("model.dead-units", "model.saturated", "model.vanishing-gradient", "model.exploding-gradient", "fit.*"),
)
"""What shows where the data cannot be learned from, whatever the network."""
for _code, _more in {
    "data.not-finite": ("data.constant-images", "model.*", "optim.*", "loss.*", "fit.*"),
    "data.not-normalized": _UNTRAINABLE,
    "data.label-range": (
        *("data.missing-class", "data.imbalance", "data.labels-random", "data.label-noise", "loss.degenerate"),
        *("loss.sign", "loss.not-finite", "model.collapsed", "fit.*"),
    ),
    "data.constant-images": (
        *("data.duplicates", "data.leak", "data.label-noise", "data.labels-random", "data.too-few", "model.dead-units"),
        *("model.collapsed", "fit.*"),
    ),
    "data.labels-random": ("data.label-noise", "data.shift", *_UNTRAINABLE),
    "data.label-noise": ("fit.*",),
    "data.missing-class": ("data.imbalance", "data.shift", "fit.*"),
    "data.imbalance": ("data.labels-random", "model.collapsed", "loss.degenerate", "fit.*"),
    "data.too-few": ("data.label-noise", "fit.overfit"),
    "data.duplicates": ("data.too-few", "data.label-noise", "fit.overfit"),
    "data.not-shuffled": (
        *("data.missing-class", "data.imbalance", "model.batch-norm-small-batch", "model.mode"),
        *("model.dead-units", "model.collapsed", "optim.lr-too-high", "optim.lr-too-low", "loss.degenerate", "fit.*"),
    ),
    "data.scrambled": ("data.labels-random", "data.constant-images", "data.shift", "model.receptive-field", "fit.*"),
    "data.label-map": ("data.shift", "fit.*"),
    "data.shift": ("fit.*", "model.mode"),
}.items():
    EXPLAINS[_code] = tuple(dict.fromkeys((*EXPLAINS.get(_code, ()), *_more)))

_NOT_LEARNING = ("fit.*", "optim.lr-too-low", "model.collapsed", "model.vanishing-gradient")
"""What shows where a network as it is built cannot learn, or learns slowly."""
for _code, _more in {
    "model.double-softmax": (
        *("model.last-layer-clipped", "model.saturated", "loss.initial-off", "loss.degenerate", "optim.lr-too-high"),
        *_NOT_LEARNING,
    ),
    "model.last-layer-clipped": (
        *("model.dead-units", "model.saturated", "loss.initial-off", "loss.degenerate", "optim.lr-too-high"),
        *_NOT_LEARNING,
    ),
    "model.no-nonlinearity": ("model.redundant-filters", "model.receptive-field", *_NOT_LEARNING),
    "model.unregistered-parameters": (
        *("model.unused-parameters", "model.mode", "model.redundant-filters", "optim.parameters-missing"),
        *("optim.lr-too-high", *_NOT_LEARNING),
    ),
    "model.graph-detached": (
        *("model.unused-parameters", "model.frozen-parameters", "model.redundant-filters", "loss.degenerate"),
        *("optim.parameters-missing", "optim.no-step", "optim.gradient-wrong", *_NOT_LEARNING),
    ),
    "model.frozen-parameters": (
        *("optim.parameters-missing", "optim.no-step", "model.redundant-filters", *_NOT_LEARNING),
    ),
    "model.unused-parameters": ("optim.parameters-missing",),
    "model.shared-weights": ("fit.*",),
    "model.mode": ("model.batch-mixing", "fit.*", "optim.lr-too-high", "loss.initial-off"),
    "model.batch-norm-small-batch": ("model.mode", "optim.lr-too-high", *_NOT_LEARNING),
    "model.batch-mixing": ("model.redundant-filters", *_NOT_LEARNING),
    "model.dropout-too-high": ("model.dead-units", "optim.lr-too-high", *_NOT_LEARNING),
    "model.too-small": ("model.receptive-field", "model.dead-units", *_NOT_LEARNING),
    "model.shrinks-too-fast": ("model.receptive-field", "model.dead-units", *_NOT_LEARNING),
    "model.receptive-field": _NOT_LEARNING,
}.items():
    EXPLAINS[_code] = tuple(dict.fromkeys((*EXPLAINS.get(_code, ()), *_more)))

FIRST: tuple[str, ...] = (
    "data.not-finite",
    "data.label-range",
    "loss.not-finite",
    "loss.broadcast",
    "loss.wrong-for-task",
    "loss.sign",
    "data.constant-images",
    "data.not-shuffled",
    "data.scrambled",
    "data.missing-class",
    "data.not-normalized",
    "data.label-map",
    "data.shift",
    "data.labels-random",
    "data.leak",
    "loss.degenerate",
    "model.graph-detached",
    "model.unregistered-parameters",
    "model.frozen-parameters",
    "model.double-softmax",
    "model.last-layer-clipped",
    "model.mode",
    "model.batch-norm-small-batch",
    "model.batch-mixing",
    "model.no-nonlinearity",
    "model.dropout-too-high",
    "model.shared-weights",
    "optim.no-step",
    "optim.missing-zero-grad",
    "optim.gradient-wrong",
    "optim.parameters-missing",
    "model.symmetric-init",
    "optim.clip-too-small",
    "optim.lr-schedule",
    "optim.weight-decay-too-high",
    "model.exploding-gradient",
    "model.saturated",
    "model.dead-units",
    "model.vanishing-gradient",
    "model.too-small",
    "model.shrinks-too-fast",
    "model.receptive-field",
    "model.collapsed",
    "optim.lr-too-high",
    "optim.lr-too-low",
)
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
        for pattern in EXPLAINS.get(code, ())
    )


def _rank(finding: Finding) -> tuple[int, int]:
    place = FIRST.index(finding.code) if finding.code in FIRST else len(FIRST)
    return SEVERITIES.index(finding.severity), place
