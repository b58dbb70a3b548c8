"""fit.underfit: does the training error itself stay high, though simple models show that the data can be learned?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.fitting import Fit, fit_of, flat, learns_itself, longer, need_answers, warms_up
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Trial
from striate.records import Finding, Remedy

_GOOD = 0.9
_GAP = 0.1
_EPOCHS = 5
_FLAT = 0.03
_MANY_EPOCHS = 30
_SLOW = 0.15
_MOST = 1500


def _run(evidence: Evidence) -> Iterator[Finding]:
    need_answers(evidence)
    trial = evidence.trial
    reached = _best_fit(evidence)
    if trial.error is not None or len(trial.rows) < 40 or reached.score >= _GOOD or warms_up(trial):
        return
    known = _simple_models(evidence)
    if known - reached.score < _GAP:
        return
    steps = len(trial.rows)
    if any(not _below(_by_itself(evidence, rate, steps), known) for rate in (1e-2, 1e-3)):
        return  # the network can: it is the way that it is trained
    more = longer(evidence)
    fitted = fit_of(evidence.in_training(more.double))
    if not _settled(evidence, more, known - fitted.score) or not _below(fitted, known):
        return
    best = _by_itself(evidence, 1e-2, len(more.rows))
    if not _below(best, known):
        return
    parameters = sum(p.numel() for p in evidence.patient.model.parameters())
    simple = f"R² {known:.2f}" if fitted.numbers else f"{known:.1%} right"
    yield Finding(
        code="fit.underfit",
        severity="warning",
        where="the network",
        measured=f"after {len(more.rows)} steps {fitted.text} on samples that it was trained with, and the loss "
        "hardly falls "
        f"any more ({more.level():.3g}); with Adam and no dropout {best.text}; simple models get {simple} on samples "
        f"that they were not fitted to; {parameters:,} parameters",
        threshold=CHECK.threshold,
        why="Even what it was trained with it cannot answer: it is too small or too simple for what there is to be "
        "known.",
        remedy=Remedy(
            "take more or wider layers, with a nonlinearity between them, and less regularization (dropout, "
            "weight decay)",
            advice="a larger network, or more epochs",
        ),
    )


def _by_itself(evidence: Evidence, rate: float, steps: int) -> Fit:
    return fit_of(evidence.in_training(learns_itself(evidence, rate, steps=steps).double))


def _settled(evidence: Evidence, trial: Trial, gap: float) -> bool:
    """Whether it has seen the samples often enough, and hardly gets any better."""
    epochs = len(trial.rows) / max(len(evidence.train.raw), 1)
    later = trial.losses[len(trial.losses) // 2 :]
    far = epochs >= _MANY_EPOCHS and gap >= 2 * _GAP and flat(later, _SLOW)
    return far or (epochs >= _EPOCHS and flat(later, _FLAT))


def _below(fit: Fit, known: float) -> bool:
    return fit.score < _GOOD and known - fit.score >= max(_GAP, 3 * fit.uncertainty)


def _best_fit(evidence: Evidence) -> Fit:
    """The better of the answers in training mode and in evaluation mode: a fault of modes is no lack of capacity."""
    fits = [fit_of(evidence.after_training), fit_of(evidence.after), fit_of(evidence.start)]
    return max(fits, key=lambda fit: fit.score)


def _simple_models(evidence: Evidence) -> float:
    """The score of the best simple model on samples that it was not fitted to."""
    if evidence.patient.classifies:
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
    columns, wanted = x[chosen].flatten(1).float().numpy(), y[chosen].reshape(-1).double().numpy()
    forest = ExtraTreesRegressor(60, min_samples_leaf=3, bootstrap=True, oob_score=True, random_state=0)
    return float(forest.fit(columns, wanted).oob_score_)


CHECK = Check(
    codes=("fit.underfit",),
    question="Does the training error stay high, though the data can be learned?",
    threshold=f"fewer than {_GOOD:.0%} of the training samples right (R² below {_GOOD:g}) and {_GAP:.0%} less than "
    "simple "
    f"models (neighbors, trees, a linear one) get on samples left out, {_EPOCHS} epochs or more seen, the loss "
    f"falling by less than {_FLAT:.0%} in the last eighth (after {_MANY_EPOCHS} epochs and with twice that gap, "
    f"{_SLOW:.0%}), and Adam without dropout no better: then it is not how it is trained",
    run=_run,
    quick=False,
)
