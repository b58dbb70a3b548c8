"""`fit.overfit` and `fit.underfit`: how well training and validation samples are predicted."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import Fit, fit_of, flat, learns_itself, longer, need_predictions
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.learning import is_a_part
from striate.doctor.evidence.rates import warms_up
from striate.doctor.evidence.reading import draws_again
from striate.doctor.evidence.trial import Change, Trial, go_on, run_trial
from striate.records import Finding, Remedy
from striate.wording import several

_LEARNED = 0.97
_EXPLAINED = 0.95
_OVERFIT_GAP = 0.15
_FAR = 0.25
"""From here on it is more than a note: few samples of a hard question leave a gap of some 20 % to any network."""
_GAP_EXPLAINED = 0.3
_COMMON, _KNOWN, _CHANCE = 0.8, 0.6, 0.1
"""Of the samples, that are of one class; of what there is to gain over saying that, in training and in validation."""
_OPENING = 0.08
_POINTS = 8
_RISING = 0.05
"""What validation gains in three times the steps, of a network that is not done with what holds for others."""
_SMALL = 4000


def _find_overfit(evidence: Evidence) -> Iterator[Finding]:
    need_predictions(evidence)
    evidence.val  # noqa: B018 — without validation data there is nothing to compare
    given, given_val = fit_of(evidence.start), fit_of(evidence.start_val.in_unit_of(evidence.start))
    if _overfits(given, given_val):
        yield _finding(evidence, "as the network was given", given, given_val, "")
        return
    if _learned(given):
        return
    trial, fitted, other = evidence.trial, fit_of(evidence.after), fit_of(evidence.after_val.in_unit_of(evidence.after))
    if _overfits(fitted, other) or (not _learned(fitted) and _may_yet(evidence, fitted, other)):
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
    wide = gap >= (_GAP_EXPLAINED if train.numbers else _OVERFIT_GAP) or _rare_by_heart(train, val)
    return _learned(train) and wide and gap > 3 * val.uncertainty


def _rare_by_heart(train: Fit, val: Fit) -> bool:
    """Whether rare classes are known in training and next to nothing of them in validation, which shows in few samples
    of all."""
    return not train.numbers and train.guess >= _COMMON and train.skill >= _KNOWN and val.skill <= _CHANCE


def _may_yet(evidence: Evidence, train: Fit, val: Fit) -> bool:
    """Whether few samples, many parameters and a gap that has opened make more steps worth their time."""
    parameters = sum(p.numel() for p in evidence.setup.model.parameters())
    seen = evidence.train
    small = seen.whole and seen.count <= _SMALL and parameters > seen.count and len(evidence.trial.rows) >= 40
    return small and train.score - val.score >= max(_OPENING, 2 * val.uncertainty) and evidence.trial.error is None


def _seen_otherwise(evidence: Evidence) -> bool:
    """Whether training draws each sample anew, of which the trial sees a few draws again and again; or repeats rare
    ones, which are learned by heart first."""
    try:
        return draws_again(evidence.setup.train) or evidence.drawn_anew
    except NoEvidence:
        return False


def _course(evidence: Evidence, trial: Trial) -> str:
    """Where on the way validation was best, in words."""
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
    rare = _rare_by_heart(train, val)
    far = rare or train.score - val.score >= (_GAP_EXPLAINED if train.numbers else _FAR)
    alone = f" (the commonest class alone: {val.guess:.1%})" if rare else ""
    return OVERFIT.finding(
        severity="warning" if far and not _seen_otherwise(evidence) else "note",
        where="training and validation",
        measured=f"{when}, {train.text} on {several(train.count, 'training sample')} and {val.text} on "
        f"{several(val.count, 'validation sample')}{alone}{course}; "
        f"{several(parameters, 'parameter')} for {several(samples, 'sample')}",
        why="The network has memorized the samples, and learned little that holds for others.",
        remedy=Remedy(
            "use more data or augmentation, stop at the best validation loss, add `nn.Dropout(0.5)` or "
            "`weight_decay=5e-2` with `torch.optim.AdamW`, or use a smaller network",
            settings={"budget.patience": 5},
            advice="more data or augmentation, or dropout(0.5) in the network",
        ),
    )


OVERFIT = Check(
    codes=("fit.overfit",),
    question="Are training samples predicted almost perfectly, and validation samples much worse?",
    threshold=f"{_LEARNED:.0%} of the training samples right (for quantities, R² {_EXPLAINED:g}), validation worse "
    f"by {_OVERFIT_GAP:.0%} (R² {_GAP_EXPLAINED:g}; or at chance with one class of {_COMMON:.0%}) and by three "
    f"standard errors, and not {_RISING:.0%} better after three times the steps; a note below {_FAR:.0%}",
    run=_find_overfit,
    quick=False,
)


_GOOD = 0.9
_UNDERFIT_GAP = 0.1
_EPOCHS = 5
_FLAT = 0.03
_MANY_EPOCHS = 30
_SLOW = 0.15
_MOST = 1500


def _find_underfit(evidence: Evidence) -> Iterator[Finding]:
    need_predictions(evidence)
    trial = evidence.trial
    reached = _best_fit(evidence)
    if trial.error is not None or len(trial.rows) < 40 or reached.score >= _GOOD or warms_up(trial):
        return
    if is_a_part(evidence):
        raise NoEvidence("only a small part of the network is trained, as in fine-tuning")
    known = _simple_models(evidence)
    if known - reached.score < _UNDERFIT_GAP:
        return
    steps = len(trial.rows)
    if any(not _below(_by_itself(evidence, rate, steps), known) for rate in (1e-2, 1e-3)):
        return  # the network can: it is the way that it is trained
    more = longer(evidence)
    fitted = fit_of(evidence.in_training(more.replica))
    if not _settled(evidence, more, known - fitted.score) or not _below(fitted, known):
        return
    best = _by_itself(evidence, 1e-2, len(more.rows))
    if not _below(best, known):
        return
    parameters = sum(p.numel() for p in evidence.setup.model.parameters())
    simple = f"R² {known:.2f}" if fitted.numbers else f"{known:.1%} right"
    yield UNDERFIT.finding(
        severity="warning",
        where="the network",
        measured=f"after {several(len(more.rows), 'step')} {fitted.text} on its training samples, and the loss "
        f"hardly falls any more ({more.level():.3g}); with Adam and no dropout {best.text}; simple models get "
        f"{simple} on samples that they were not fitted to; {several(parameters, 'parameter')}",
        limit=f"fewer than {_GOOD:.0%} of the training samples right (R² {_GOOD:g}), {_UNDERFIT_GAP:.0%} less than "
        f"simple models get on held-out samples, after {_EPOCHS} epochs in which the loss falls by less than "
        f"{_FLAT:.0%} (after {_MANY_EPOCHS} and with twice the gap, by {_SLOW:.0%}), and Adam without dropout no "
        "better",
        why="The network cannot even predict its training samples: it is too small or too simple for the data.",
        remedy=Remedy(
            "use more or wider layers, with a nonlinearity between them, and less regularization (dropout, weight "
            "decay)",
            advice="a larger network, or more epochs",
        ),
    )


def _find_few_steps(evidence: Evidence) -> Iterator[Finding]:
    """A script whose training is over before what the trial learned in more steps is learned."""
    source, loader, trial = evidence.setup.source, evidence.setup.train, evidence.trial
    if source is None or (source.epochs or 0) < 2 or not isinstance(loader, DataLoader):
        return
    if source.other_trainings():  # of which this is one part
        return
    try:
        batches = len(loader)
    except TypeError:
        return
    epochs = source.epochs or 0
    added = source.library.accumulated if source.library is not None else 1
    planned = epochs * math.ceil(batches / added)
    if trial.error is not None or any(not row.steps for row in trial.rows) or 4 * planned > len(trial.rows):
        return
    reached, end = (sum(part) / len(part) for part in (trial.losses[planned // 2 : planned], trial.losses[-planned:]))
    chance = evidence.progress.chance
    if not math.isfinite(end) or chance <= 0 or reached - end < _FAR_FROM_DONE * chance:
        return
    accumulated = f", with gradients of {added} batches accumulated for each step" if added > 1 else ""
    yield UNDERFIT.finding(
        severity="warning",
        where="the training",
        measured=f"the script makes {several(planned, 'step')} in all ({several(epochs, 'epoch')} of "
        f"{several(batches, 'batch', 'batches')}{accumulated}): by then the loss is {reached:.3g}, but after "
        f"{several(len(trial.rows), 'step')} it is {end:.3g}",
        limit="the script makes a quarter of the trial's steps or fewer, and the loss still has to fall by "
        f"{_FAR_FROM_DONE:g} of that of a constant prediction",
        why="Training ends long before the network has learned these data.",
        remedy=Remedy(
            "make more steps: smaller batches, fewer accumulated batches, more epochs",
            advice="more epochs, or smaller batches",
        ),
    )


_FAR_FROM_DONE = 0.3
"""Of the loss of a constant prediction."""


def _find_unfinished(evidence: Evidence) -> Iterator[Finding]:
    found = list(_find_few_steps(evidence))
    yield from found or _find_underfit(evidence)


def _by_itself(evidence: Evidence, rate: float, steps: int) -> Fit:
    return fit_of(evidence.in_training(learns_itself(evidence, rate, steps=steps).replica))


def _settled(evidence: Evidence, trial: Trial, gap: float) -> bool:
    """Whether it has seen the samples often enough, and hardly gets any better."""
    epochs = len(trial.rows) / max(len(evidence.train.raw), 1)
    later = trial.losses[len(trial.losses) // 2 :]
    far = epochs >= _MANY_EPOCHS and gap >= 2 * _UNDERFIT_GAP and flat(later, _SLOW)
    return far or (epochs >= _EPOCHS and flat(later, _FLAT))


def _below(fit: Fit, known: float) -> bool:
    return fit.score < _GOOD and known - fit.score >= max(_UNDERFIT_GAP, 3 * fit.uncertainty)


def _best_fit(evidence: Evidence) -> Fit:
    """The better of the predictions in training mode and in evaluation mode: a fault of modes is no lack of
    capacity."""
    fits = [fit_of(evidence.after_training), fit_of(evidence.after), fit_of(evidence.start)]
    return max(fits, key=lambda fit: fit.score)


def _simple_models(evidence: Evidence) -> float:
    """The score of the best simple model on samples that it was not fitted to."""
    if evidence.setup.classifies:
        reference = evidence.reference
        return reference.accuracy(reference.best[0])
    return _forest(evidence)


def _forest(evidence: Evidence) -> float:
    """How much of a quantity a forest explains of samples that its trees were not fitted to."""
    x, y = evidence.train.inputs, evidence.train.y
    if y is None or y.numel() != len(y) or not bool(torch.isfinite(x.float()).all()) or x[0].numel() > 4096:
        raise NoEvidence("the targets are not one quantity for a sample, or inputs are too large for simple models")
    # Loaded here: it takes half a second that no other evidence needs.
    from sklearn.ensemble import ExtraTreesRegressor

    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:_MOST]
    columns = x[chosen].reshape(len(chosen), -1).float().numpy()
    wanted = y[chosen].reshape(-1).double().numpy()
    forest = ExtraTreesRegressor(60, min_samples_leaf=3, bootstrap=True, oob_score=True, random_state=0)
    return float(forest.fit(columns, wanted).oob_score_)


UNDERFIT = Check(
    codes=("fit.underfit",),
    question="Does the training error stay high, though the data can be learned?",
    run=_find_unfinished,
    quick=False,
)
