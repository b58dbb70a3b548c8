"""fit.overfit: are training samples answered almost perfectly, and others much worse?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import Fit, fit_of, need_answers
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, Trial, go_on, run_trial
from striate.records import Finding, Remedy

_LEARNED = 0.97
_EXPLAINED = 0.95
_GAP = 0.15
_GAP_EXPLAINED = 0.3
_OPENING = 0.08
_POINTS = 8
_SMALL = 4000


def _run(evidence: Evidence) -> Iterator[Finding]:
    need_answers(evidence)
    evidence.val  # noqa: B018 — without validation data there is nothing to compare
    given, given_val = fit_of(evidence.start), fit_of(evidence.start_val)
    if _overfits(given, given_val):
        yield _finding(evidence, "as the network was given", given, given_val, "")
        return
    if _learned(given):
        return
    trial, fitted, other = evidence.trial, fit_of(evidence.after), fit_of(evidence.after_val)
    if not _learned(fitted) and _may_yet(evidence, fitted, other):
        trial = evidence.variant("three times as long", Change(), steps=3 * len(trial.rows))
        fitted = fit_of(evidence.answers_of(trial, evidence.train.raw))
        other = fit_of(evidence.answers_of(trial, evidence.val.raw))
    if _overfits(fitted, other):
        yield _finding(evidence, f"after {len(trial.rows)} steps", fitted, other, _course(evidence, trial))


def _learned(fit: Fit) -> bool:
    return fit.score >= (_EXPLAINED if fit.numbers else _LEARNED)


def _overfits(train: Fit, val: Fit) -> bool:
    gap = train.score - val.score
    return _learned(train) and gap >= (_GAP_EXPLAINED if train.numbers else _GAP) and gap > 3 * val.uncertainty


def _may_yet(evidence: Evidence, train: Fit, val: Fit) -> bool:
    """Whether few samples, many parameters and a gap that has opened make more steps worth their time."""
    parameters = sum(p.numel() for p in evidence.patient.model.parameters())
    seen = evidence.train
    small = seen.whole and seen.count <= _SMALL and parameters > seen.count and len(evidence.trial.rows) >= 40
    return small and train.score - val.score >= max(_OPENING, 2 * val.uncertainty) and evidence.trial.error is None


def _course(evidence: Evidence, trial: Trial) -> str:
    """Where on the way validation was best, in words."""
    steps = len(trial.rows)
    each = max(steps // _POINTS, 1)
    until = evidence.clock.until(0.1, 1.0)
    again = run_trial(evidence.patient, evidence.train.raw, each, until, Change(), close=False)
    points: list[tuple[int, Fit]] = []
    while again.error is None and again.rows:
        points.append((len(again.rows), fit_of(evidence.answers_of(again, evidence.val.raw))))
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
        "The loss of the trial, and that of validation",
        {"training": tuple(trial.losses), "validation": _stretched(points, steps)},
    )
    number, best = min(points, key=lambda point: point[1].loss)
    last = points[-1][1]
    if last.loss < 1.02 * best.loss:
        return ""
    return f"; its loss was lowest after {number} steps ({best.loss:.3g}, {best.text}), and is {last.loss:.3g} now"


def _stretched(points: list[tuple[int, Fit]], steps: int) -> tuple[float, ...]:
    return tuple(next((fit.loss for at, fit in points if at > step), points[-1][1].loss) for step in range(steps))


def _finding(evidence: Evidence, when: str, train: Fit, val: Fit, course: str) -> Finding:
    parameters = sum(p.numel() for p in evidence.patient.model.parameters())
    samples = evidence.train.length or evidence.train.count
    return Finding(
        code="fit.overfit",
        severity="warning",
        where="training and validation",
        measured=f"{when}, {train.text} on {train.count:,} training samples and {val.text} on {val.count:,} of "
        f"validation{course}; {parameters:,} parameters for {samples:,} samples",
        threshold=CHECK.threshold,
        why="The network has learned the samples by heart, and little that holds for others.",
        remedy=Remedy(
            "take more data or augment them, stop at the best validation loss, add `nn.Dropout(0.5)` or "
            "`weight_decay=5e-2` with `torch.optim.AdamW`, or take a smaller network",
            settings={"budget.patience": 5},
            advice="more data or augmentation, or dropout(0.5) in the network",
        ),
    )


CHECK = Check(
    codes=("fit.overfit",),
    question="Are training samples answered almost perfectly, and those of validation much worse?",
    threshold=f"{_LEARNED:.0%} of the training samples right (of quantities R² {_EXPLAINED:g}) and validation worse by "
    f"{_GAP:.0%} (R² {_GAP_EXPLAINED:g}) and by three standard errors: some hundred real samples give a gap of 5 to "
    f"12 % to any good network",
    run=_run,
    quick=False,
)
