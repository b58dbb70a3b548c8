"""`fit.underfit`: does the training error stay high, though the data can be learned?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import Fit, fit_of, flat, longer, need_predictions, trial_with_adam
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.learning import trains_a_part
from striate.doctor.evidence.rates import warms_up
from striate.doctor.evidence.trial import Trial
from striate.doctor.setup.batch import batches_of
from striate.records import Finding, Remedy
from striate.wording import percent, several

_GOOD = 0.9
_GAP = 0.1
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
    if trains_a_part(evidence):
        raise NoEvidence("only a small part of the network is trained, as in fine-tuning")
    known = _simple_models(evidence)
    if known - reached.score < _GAP:
        return
    steps = len(trial.rows)
    if any(not _below(_fit_with_adam(evidence, rate, steps), known) for rate in (1e-2, 1e-3)):
        return  # the network can learn the data: the fault is in its training
    more = longer(evidence)
    fitted = fit_of(evidence.in_training(more.replica))
    if not _settled(evidence, more, known - fitted.score) or not _below(fitted, known):
        return
    best = _fit_with_adam(evidence, 1e-2, len(more.rows))
    if not _below(best, known):
        return
    parameters = sum(p.numel() for p in evidence.setup.model.parameters())
    simple = f"R² {known:.2f}" if fitted.numbers else f"{percent(known)} right"
    yield UNDERFIT.finding(
        severity="warning",
        where="the network",
        measured=f"after {several(len(more.rows), 'step')} {fitted.text} on its training samples, and the loss "
        f"hardly falls any more ({more.level():.3g}); with Adam and no dropout {best.text}; simple models get "
        f"{simple} on samples that they were not fitted to; {several(parameters, 'parameter')}",
        limit=f"fewer than {percent(_GOOD, 0)} of the training samples right (R² {_GOOD:g}), {percent(_GAP, 0)} less "
        f"than simple models get on held-out samples, after {_EPOCHS} epochs in which the loss falls by less than "
        f"{percent(_FLAT, 0)} (after {_MANY_EPOCHS} and with twice the gap, by {percent(_SLOW, 0)}), and Adam without "
        "dropout no better",
        why="The network cannot even predict its training samples: it is too small or too simple for the data.",
        remedy=Remedy(
            "use more or wider layers, with a nonlinearity between them, and less regularization (dropout, weight "
            "decay)",
            advice="a larger network, or more epochs",
        ),
    )


def _find_few_steps(evidence: Evidence) -> Iterator[Finding]:
    """A script whose training ends long before its loss reaches that of the trial, which makes more steps."""
    source, loader, trial = evidence.setup.source, evidence.setup.train, evidence.trial
    if source is None or (source.epochs or 0) < 2 or not isinstance(loader, DataLoader):
        return
    if source.other_trainings():  # this one may be a part of a longer training
        return
    batches = batches_of(loader)
    if batches is None:
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
"""How far the loss still has to fall, as a share of the loss of a constant prediction."""


def _find_unfinished(evidence: Evidence) -> Iterator[Finding]:
    found = list(_find_few_steps(evidence))
    yield from found or _find_underfit(evidence)


def _fit_with_adam(evidence: Evidence, rate: float, steps: int) -> Fit:
    return fit_of(evidence.in_training(trial_with_adam(evidence, rate, steps=steps).replica))


def _settled(evidence: Evidence, trial: Trial, gap: float) -> bool:
    """Whether the trial has seen the samples often enough, and its loss hardly falls any more."""
    epochs = len(trial.rows) / max(len(evidence.train.raw), 1)
    later = trial.losses[len(trial.losses) // 2 :]
    far = epochs >= _MANY_EPOCHS and gap >= 2 * _GAP and flat(later, _SLOW)
    return far or (epochs >= _EPOCHS and flat(later, _FLAT))


def _below(fit: Fit, known: float) -> bool:
    return fit.score < _GOOD and known - fit.score >= max(_GAP, 3 * fit.uncertainty)


def _best_fit(evidence: Evidence) -> Fit:
    """The best of the predictions before and after training, in training mode and in evaluation mode: a wrong mode is
    not a lack of capacity."""
    fits = [fit_of(evidence.after_training), fit_of(evidence.after), fit_of(evidence.start)]
    return max(fits, key=lambda fit: fit.score)


def _simple_models(evidence: Evidence) -> float:
    """The score of the best simple model on samples that it was not fitted to."""
    if evidence.setup.classifies:
        reference = evidence.reference
        return reference.accuracy(reference.best[0])
    return _forest(evidence)


def _forest(evidence: Evidence) -> float:
    """R² of a forest of trees, on samples that the trees were not fitted to (out of bag)."""
    x, y = evidence.train.inputs, evidence.train.y
    if y is None or y.numel() != len(y) or not bool(torch.isfinite(x.float()).all()) or x[0].numel() > 4096:
        raise NoEvidence("the targets are not one quantity for a sample, or inputs are too large for simple models")
    # Loaded here: it takes half a second that no other evidence needs.
    from sklearn.ensemble import ExtraTreesRegressor

    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:_MOST]
    columns = x[chosen].reshape(len(chosen), -1).float().numpy()
    targets = y[chosen].reshape(-1).double().numpy()
    forest = ExtraTreesRegressor(60, min_samples_leaf=3, bootstrap=True, oob_score=True, random_state=0)
    return float(forest.fit(columns, targets).oob_score_)


UNDERFIT = Check(
    codes=("fit.underfit",),
    run=_find_unfinished,
    quick=False,
)
