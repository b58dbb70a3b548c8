"""`fit.plateau` and `fit.cannot-overfit-batch`: a loss that stays where it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import (
    Fit,
    blends,
    fit_of,
    flat,
    learns_itself,
    longer,
    need_predictions,
)
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import Predictions, predict
from striate.doctor.evidence.quality import quality
from striate.doctor.evidence.rates import at_rate, rates_are_users, warms_up
from striate.doctor.evidence.trial import Trial, go_on
from striate.doctor.setup.batch import size_of
from striate.records import Finding, Remedy
from striate.wording import several

_FALLEN = 0.03
_FEWEST = 60
_BETTER = 0.7
_HIGH = 0.05
_STEADY = 0.75
_PLATEAU_RIGHT = 0.97


def _find_plateau(evidence: Evidence) -> Iterator[Finding]:
    need_predictions(evidence, as_loaded=False)
    trial = evidence.trial
    if trial.error is not None or len(trial.rows) < _FEWEST or warms_up(trial):
        return
    if not _guesses(evidence.start_training):
        yield from _noisy(evidence)
        return
    if not _stuck(trial.losses):
        return
    moved = max((row.moved or 0.0) / max(row.weights or 1.0, 1e-12) for row in trial.rows if row.moved is not None)
    predictions = (evidence.after_training, evidence.after)
    if moved < 1e-7 or not all(_guesses(one) for one in predictions):
        return
    more = longer(evidence)
    if not _stuck(more.losses) or not flat(more.losses, _FALLEN) or not _guesses(evidence.in_training(more.replica)):
        return
    text, remedy = _with_adam(evidence, len(more.rows))
    evidence.pictures["fit.plateau"] = Picture("lines", "The loss of the trial", {"loss": tuple(more.losses)})
    yield PLATEAU.finding(
        severity="warning",
        where="training",
        measured=f"the loss is {_mean(more.losses[:10]):.3g} in the first 10 steps and {more.level():.3g} after "
        f"{several(len(more.rows), 'step')}. The weights change (by {moved:.1g} of their norm in a step), but the "
        f"predictions are no better than a guess{text}",
        limit=f"in {_FEWEST} steps or more the loss falls by less than {_FALLEN:.0%}, and predictions are no better "
        "than a guess before and after",
        why="Training stagnates where the gradient is nearly zero, or points nowhere.",
        remedy=remedy,
    )


def _noisy(evidence: Evidence) -> Iterator[Finding]:
    """A network that has learned, whose loss stays where it is at this rate, and falls at a tenth of it."""
    known = quality(evidence.start_training.outputs, evidence.start_training.targets)
    trial = evidence.trial
    half = len(trial.losses) // 2
    own = _mean(trial.losses[half:])
    if known is None or not rates_are_users(evidence) or known.loss < _HIGH * known.constant:
        return
    if (known.accuracy or 0.0) > _PLATEAU_RIGHT or own < _STEADY * _mean(trial.losses[:half]):
        return
    slower = at_rate(evidence, 0.1)
    low = _mean(slower.losses[-len(slower.losses) // 4 :])
    if slower.error is not None or not slower.losses or not low < _BETTER * own:
        return
    evidence.pictures["fit.plateau"] = Picture(
        "lines", "The loss of the trial", {"as it is": tuple(trial.losses), "a tenth of the rate": tuple(slower.losses)}
    )
    yield PLATEAU.finding(
        severity="warning",
        where="training",
        measured=f"the network has learned, and its loss stays at {own:.3g} over {several(len(trial.rows), 'step')}; "
        f"with a tenth of the learning rate it is {low:.3g} after as many",
        limit=f"the loss is above {_HIGH:.0%} of that of a guess, falls by less than {1 - _STEADY:.0%} from the "
        f"first half of the trial to the second, and at a tenth of the rate falls below {_BETTER:.0%} of that",
        why="At this rate the steps oscillate around the minimum: the remaining loss is their noise.",
        remedy=Remedy(
            "decay the rate: `torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)` with "
            "`scheduler.step()` once an epoch, or `ReduceLROnPlateau`",
            settings={"schedule.name": "one-cycle"},
        ),
    )


def _stuck(losses: list[float]) -> bool:
    if len(losses) < _FEWEST or not all(map(math.isfinite, losses)):
        return False
    first, last = _mean(losses[:10]), _mean(losses[-len(losses) // 4 :])
    noise = (sum((loss - first) ** 2 for loss in losses[:10]) / 9) ** 0.5 / 10**0.5
    return last > (1 - _FALLEN) * first - noise and abs(last) < 3 * abs(first) + 1e-9


def _guesses(predictions: Predictions) -> bool:
    found = quality(predictions.outputs, predictions.targets)
    return found is not None and found.guesses


def _with_adam(evidence: Evidence, steps: int) -> tuple[str, Remedy]:
    """What an optimizer of our own makes of it, in words, and the remedy."""
    usual = Remedy(
        "put a normalization (`nn.BatchNorm2d`, `nn.LayerNorm`) before each nonlinearity, use `nn.ReLU()` and "
        "`nn.init.kaiming_normal_`, or add residual connections",
        advice="bn before each nonlinearity, relu, or res[ … ] in a layer string",
    )
    for rate in (1e-3, 1e-2):
        try:
            trial = learns_itself(evidence, rate, steps=steps)
        except OutOfTime:
            return "", usual
        if trial.error is None and trial.rows and trial.level() < _BETTER * evidence.trial.level():
            name = f"torch.optim.Adam(model.parameters(), lr={rate:g})"
            return (
                f"; with Adam at {rate:g} the loss is {trial.level():.3g} after as many",
                Remedy(f"use `{name}`, or {usual}", settings={"optim.name": "adamw", "optim.lr": rate}),
            )
    return "; Adam does no better", usual


def _mean(losses: list[float]) -> float:
    return sum(losses) / max(len(losses), 1)


PLATEAU = Check(
    codes=("fit.plateau",),
    question="Does the loss stay where it was, though weights change?",
    run=_find_plateau,
    quick=False,
)


_SAMPLES = 16
_STEPS = 100
_MOST_STEPS = 300
_RATES = (3e-3, 1e-3, 3e-2)
_CANNOT_OVERFIT_BATCH_RIGHT = 0.8
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
        f"{_CANNOT_OVERFIT_BATCH_RIGHT:.0%} right (R² below {_EXPLAINED:g})"
    )
    remedy = (
        "train on one batch again and again, and follow one sample through `forward`: find where its difference from "
        "the others is lost (a reshape that mixes samples, a pooling over everything, inputs that are multiplied by "
        "0)"
    )
    if share >= _CONTRADICTING:
        measured += (
            f"; {share:.0%} of {several(evidence.train.count, 'sample')} have an input that also occurs with another "
            "target"
        )
        limit = f"{_CONTRADICTING:.0%} of the inputs occur with several targets"
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


_COMPARING = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


def _compares(evidence: Evidence) -> bool:
    """Whether outputs are to be what the targets are: not logarithms of them, or with a width of their own."""
    return all(call.name in ("", *_COMPARING) for call in evidence.calls.losses)


def _passes(fit: Fit) -> bool:
    return fit.score >= (_EXPLAINED if fit.numbers else max(_CANNOT_OVERFIT_BATCH_RIGHT, min(fit.guess + 0.1, 1.0)))


def _learn(evidence: Evidence, batch: Any, rate: float) -> tuple[Trial, Fit]:
    # Where the step blends samples, the network is asked about them as they are.
    setup = replace(evidence.setup, own_step=True) if blends(evidence) else evidence.setup
    trial = learns_itself(evidence, rate, steps=_STEPS, batches=[batch], name=f"one batch, Adam {rate:g}")
    if trial.error is not None:
        raise NoEvidence(f"the usual step raises {type(trial.error).__name__}")
    while True:
        found = predict(setup, trial.replica, [batch], training=True, scale=evidence.target_scale)
        fit = fit_of(evidence.as_quantities(found))
        done = len(trial.rows)
        if _passes(fit) or done >= _MOST_STEPS or trial.error is not None:
            return trial, fit
        evidence.clock.need(_STEPS * evidence.step_seconds)
        go_on(trial, [batch], _STEPS, evidence.clock.until(0.15, 2.0))
        if len(trial.rows) < done + _STEPS:
            raise NoEvidence("a step takes too long to overfit one batch")


def _dense(evidence: Evidence) -> bool:
    """Whether there are predictions for every place of an input: those near each other may look alike."""
    targets = evidence.train.y
    return targets is None or targets[0].numel() > _DISTINCT


def part_of(batch: Any, samples: int) -> Any:
    """The first samples of a batch, in its own form; None where it is not made of tensors of one length."""
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
    """The share of samples whose input also comes with another class; 0 where inputs have few numbers or there are no
    classes."""
    try:
        x, labels = evidence.train.inputs, evidence.train.labels
    except NoEvidence:
        return 0.0
    if x[0].numel() < _DISTINCT or len(x) != len(labels):
        return 0.0
    rows = x.reshape(len(x), -1).contiguous()
    classes: dict[bytes, set[int]] = {}
    keys = [row.tobytes() for row in rows.numpy()]
    for key, label in zip(keys, labels.tolist(), strict=True):
        classes.setdefault(key, set()).add(label)
    return sum(len(classes[key]) > 1 for key in keys) / len(keys)


CANNOT_OVERFIT_BATCH = Check(
    codes=("fit.cannot-overfit-batch",),
    question="Does the network fail to fit even a few samples?",
    run=_find_cannot_overfit_batch,
    quick=False,
)
