"""`fit.overfit`: are training samples predicted almost perfectly, and validation samples much worse?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import Fit, fit_of, need_predictions
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import repeats_samples
from striate.doctor.evidence.trial import Change, Trial, go_on, run_trial
from striate.records import Finding, Remedy
from striate.wording import percent, several

_LEARNED = 0.97
_EXPLAINED = 0.95
_GAP = 0.15
_FAR = 0.25
"""With this gap the finding is a warning, below it a note: any network has some 20 % on few samples of a hard task."""
_GAP_EXPLAINED = 0.3
_COMMON, _KNOWN, _CHANCE = 0.8, 0.6, 0.1
"""Share of the samples that are of one class; the least skill in training, and the highest in validation."""
_OPENING = 0.08
_POINTS = 8
_RISING = 0.05
"""Gain of the validation score in three times the steps, by which a network is still learning what generalizes."""
_SMALL = 4000


def _find_overfit(evidence: Evidence) -> Iterator[Finding]:
    need_predictions(evidence)
    evidence.val  # noqa: B018 — without validation data there is nothing to compare
    start, start_val = fit_of(evidence.start), fit_of(evidence.start_val.in_unit_of(evidence.start))
    if _overfits(start, start_val):
        yield _finding(evidence, "before any step", start, start_val, "")
        return
    if _learned(start):
        return
    trial, fitted, other = evidence.trial, fit_of(evidence.after), fit_of(evidence.after_val.in_unit_of(evidence.after))
    if _overfits(fitted, other) or (not _learned(fitted) and _may_overfit_later(evidence, fitted, other)):
        trial, before = evidence.variant("three times as long", Change(), steps=3 * len(trial.rows)), other
        fitted = fit_of(evidence.predictions_of(trial, evidence.train.raw))
        other = fit_of(evidence.predictions_of(trial, evidence.val.raw).in_unit_of(evidence.after))
        if other.score - before.score >= _RISING:
            return
    if _overfits(fitted, other):
        yield _finding(evidence, f"after {several(len(trial.rows), 'step')}", fitted, other, _course(evidence, trial))


def _learned(fit: Fit) -> bool:
    return fit.score >= (_EXPLAINED if fit.numbers else _LEARNED)


def _overfits(train: Fit, val: Fit) -> bool:
    gap = train.score - val.score
    wide = gap >= (_GAP_EXPLAINED if train.numbers else _GAP) or _rare_classes_memorized(train, val)
    return _learned(train) and wide and gap > 3 * val.uncertainty


def _rare_classes_memorized(train: Fit, val: Fit) -> bool:
    """Whether the network predicts rare classes of training samples, and hardly any of validation samples: the
    accuracy, mostly that of one class, shows little of it."""
    return not train.numbers and train.guess >= _COMMON and train.skill >= _KNOWN and val.skill <= _CHANCE


def _may_overfit_later(evidence: Evidence, train: Fit, val: Fit) -> bool:
    """Whether more steps are worth their time: few samples, many parameters, and a gap that opens."""
    parameters = sum(p.numel() for p in evidence.setup.model.parameters())
    seen = evidence.train
    small = seen.whole and seen.count <= _SMALL and parameters > seen.count and len(evidence.trial.rows) >= 40
    return small and train.score - val.score >= max(_OPENING, 2 * val.uncertainty) and evidence.trial.error is None


def _draws_differ(evidence: Evidence) -> bool:
    """Whether training draws other samples in each epoch, of which the trial repeats a few; or repeats rare samples,
    which are memorized first."""
    try:
        return repeats_samples(evidence.setup.train) or evidence.inputs_vary
    except NoEvidence:
        return False


def _course(evidence: Evidence, trial: Trial) -> str:
    """The step at which the validation loss is lowest, in words; empty where that is the end."""
    steps = len(trial.rows)
    each = max(steps // _POINTS, 1)
    until = evidence.clock.until(0.1, 1.0)
    again = run_trial(evidence.setup, evidence.train.raw, each, until, Change(), close=False)
    points: list[tuple[int, Fit]] = []
    while again.error is None and again.rows:
        points.append((len(again.rows), fit_of(evidence.predictions_of(again, evidence.val.raw))))
        known = len(again.rows)
        if known >= steps or evidence.clock.left <= 0:
            break
        go_on(again, evidence.train.raw, min(each, steps - known), until)
        if len(again.rows) == known:
            break
    if len(points) < 3:
        return ""
    evidence.pictures["fit.overfit"] = Picture(
        "lines",
        "Training and validation loss of the trial",
        {"training": tuple(trial.losses), "validation": _stretched(points, steps)},
    )
    number, best = min(points, key=lambda point: point[1].loss)
    last = points[-1][1]
    if last.loss < 1.02 * best.loss:
        return ""
    return (
        f"; the validation loss is lowest after {several(number, 'step')} ({best.loss:.3g}, {best.text}), and "
        f"{last.loss:.3g} at the end"
    )


def _stretched(points: list[tuple[int, Fit]], steps: int) -> tuple[float, ...]:
    return tuple(next((fit.loss for at, fit in points if at > step), points[-1][1].loss) for step in range(steps))


def _finding(evidence: Evidence, when: str, train: Fit, val: Fit, course: str) -> Finding:
    parameters = sum(p.numel() for p in evidence.setup.model.parameters())
    samples = evidence.train.length or evidence.train.count
    rare = _rare_classes_memorized(train, val)
    far = rare or train.score - val.score >= (_GAP_EXPLAINED if train.numbers else _FAR)
    alone = f" (the most frequent class alone: {percent(val.guess)})" if rare else ""
    return OVERFIT.finding(
        severity="warning" if far and not _draws_differ(evidence) else "note",
        where="training and validation",
        measured=f"{when}, {train.text} on {several(train.count, 'training sample')} and {val.text} on "
        f"{several(val.count, 'validation sample')}{alone}{course}; "
        f"{several(parameters, 'parameter')} for {several(samples, 'sample')}",
        why="The network has memorized the samples, and learned little that generalizes.",
        remedy=Remedy(
            "use more data or augmentation, stop at the best validation loss, add `nn.Dropout(0.5)` or "
            "`weight_decay=5e-2` with `torch.optim.AdamW`, or use a smaller network",
            settings={"budget.patience": 5},
            advice="more data or augmentation, or dropout(0.5) in the network",
        ),
    )


OVERFIT = Check(
    codes=("fit.overfit",),
    threshold=f"{percent(_LEARNED, 0)} of the training samples right (for quantities, R² {_EXPLAINED:g}), validation "
    f"worse by {percent(_GAP, 0)} (R² {_GAP_EXPLAINED:g}; or at chance with one class of {percent(_COMMON, 0)}) and by "
    f"three standard errors, and not {percent(_RISING, 0)} better after three times the steps; a note below "
    f"{percent(_FAR, 0)}",
    run=_find_overfit,
    quick=False,
)
