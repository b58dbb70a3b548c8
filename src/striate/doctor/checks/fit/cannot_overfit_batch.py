"""`fit.cannot-overfit-batch`: does the network fail to fit even a few samples?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import Fit, blends, fit_of, need_predictions, trial_with_adam
from striate.doctor.evidence.call_graph import REGRESSION
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import keys_of
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.trial import Trial, go_on
from striate.doctor.setup.batch import size_of
from striate.records import Finding
from striate.wording import percent, several

_SAMPLES = 16
_STEPS = 100
_MOST_STEPS = 300
_RATES = (3e-3, 1e-3, 3e-2)
_RIGHT = 0.8
_EXPLAINED = 0.3
_CONTRADICTING = 0.05
_DISTINCT = 16
_LEARNED = 0.97


def _find_cannot_overfit_batch(evidence: Evidence) -> Iterator[Finding]:
    need_predictions(evidence, as_loaded=False)
    trial = evidence.trial
    if trial.error is not None or not trial.rows:
        return
    share = _contradicting(evidence)
    reached = max(fit_of(evidence.after_training).score, fit_of(evidence.start).score)
    if share < _CONTRADICTING and reached >= _LEARNED:
        return
    batch = part_of(evidence.train.raw[0], _SAMPLES)
    if batch is None or _dense(evidence) or size_of(batch) < 4:
        return
    tried = [_learn(evidence, batch, _RATES[0])]
    while not _passes(tried[-1][1]) and len(tried) < len(_RATES):
        tried.append(_learn(evidence, batch, _RATES[len(tried)]))
    fits = [fit for _, fit in tried]
    best = max(fits, key=lambda fit: fit.score)
    if (_passes(best) or (best.numbers and not _compares(evidence))) and share < _CONTRADICTING:
        return
    steps = max(len(trial.rows) for trial, _ in tried)
    measured = (
        f"{several(best.count, 'sample')}, {several(steps, 'step')} of Adam on them alone without dropout: {best.text}"
    )
    limit = (
        f"up to {_MOST_STEPS} steps of Adam at {len(_RATES)} rates on {_SAMPLES} samples alone leave fewer than "
        f"{percent(_RIGHT, 0)} right (R² below {_EXPLAINED:g})"
    )
    remedy = (
        "train on one batch again and again, and follow one sample through `forward`: find where its difference from "
        "the others is lost (a reshape that mixes samples, a pooling over everything, inputs that are multiplied by "
        "0)"
    )
    if share >= _CONTRADICTING:
        measured += (
            f"; {percent(share, 0)} of {several(evidence.train.count, 'sample')} have an input that also occurs with "
            "another target"
        )
        limit = f"{percent(_CONTRADICTING, 0)} of the inputs occur with several targets"
        remedy = "find inputs that occur with several targets, and give each one target (or leave them out)"
    yield CANNOT_OVERFIT_BATCH.finding(
        severity="warning",
        where="one batch",
        measured=measured,
        limit=limit,
        why="A network that cannot memorize a handful of samples cannot learn at all: something is wrong before any "
        "tuning.",
        remedy=remedy,
    )


def _compares(evidence: Evidence) -> bool:
    """Whether the loss compares outputs with targets directly, not as logarithms or as a mean and a variance."""
    return all(call.name in ("", *REGRESSION) for call in evidence.calls.losses)


def _passes(fit: Fit) -> bool:
    return fit.score >= (_EXPLAINED if fit.numbers else max(_RIGHT, min(fit.guess + 0.1, 1.0)))


def _learn(evidence: Evidence, batch: Any, rate: float) -> tuple[Trial, Fit]:
    # Where the step blends samples, the predictions are those for the unblended ones.
    setup = replace(evidence.setup, own_step=True) if blends(evidence) else evidence.setup
    trial = trial_with_adam(evidence, rate, steps=_STEPS, batches=[batch], name=f"one batch, Adam {rate:g}")
    if trial.error is not None:
        raise NoEvidence(f"the usual step raises {type(trial.error).__name__}")
    while True:
        found = predict(setup, trial.replica, [batch], training=True, scale=evidence.target_scale)
        fit = fit_of(evidence.in_target_units(found))
        done = len(trial.rows)
        if _passes(fit) or done >= _MOST_STEPS or trial.error is not None:
            return trial, fit
        evidence.clock.need(_STEPS * evidence.step_seconds)
        go_on(trial, [batch], _STEPS, evidence.clock.until(0.15, 2.0))
        if len(trial.rows) < done + _STEPS:
            raise NoEvidence("a step takes too long to overfit one batch")


def _dense(evidence: Evidence) -> bool:
    """Whether targets are dense, as one for each position of an input: neighboring positions may look alike."""
    targets = evidence.train.y
    return targets is None or targets[0].numel() > _DISTINCT


def part_of(batch: Any, samples: int) -> Any:
    """The first samples of a batch, in the batch's structure; None where it holds anything but tensors of one
    length."""
    count = size_of(batch)

    def cut(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.ndim and len(value) == count:
            return value[:samples]
        if isinstance(value, Mapping):
            return {key: cut(part) for key, part in value.items()}
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(cut(part) for part in value)
        raise NoEvidence("batches cannot be cut into smaller ones")

    try:
        return cut(batch)
    except NoEvidence:
        return None


def _contradicting(evidence: Evidence) -> float:
    """The share of samples whose input also occurs with another class; 0 where inputs have few values, or targets are
    not classes."""
    try:
        x, labels = evidence.train.inputs, evidence.train.labels
    except NoEvidence:
        return 0.0
    if x[0].numel() < _DISTINCT or len(x) != len(labels):
        return 0.0
    classes: dict[bytes, set[int]] = {}
    keys = keys_of(x)
    for key, label in zip(keys, labels.tolist(), strict=True):
        classes.setdefault(key, set()).add(label)
    return sum(len(classes[key]) > 1 for key in keys) / len(keys)


CANNOT_OVERFIT_BATCH = Check(
    codes=("fit.cannot-overfit-batch",),
    run=_find_cannot_overfit_batch,
    quick=False,
)
