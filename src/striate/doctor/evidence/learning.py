"""Whether the trial learned anything, which a setup has to show before it is called healthy."""

from __future__ import annotations

import math
from contextlib import suppress

from striate.doctor.diagnosis import Learning
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import ignores_targets, predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.skill import skill, skill_in_words
from striate.doctor.evidence.trial import Trial
from striate.doctor.evidence.trial_variants import unchanged_parameters
from striate.doctor.setup.reached_objects import parameters_held
from striate.errors import StriateError, one_line
from striate.wording import percent, several

FARTHER = 0.03
"""Share of the way from the loss of chance to zero that counts as learning; the noise of a quarter of the trial is
less."""
_PART = 0.2
"""Share of the network's parameters."""
_RARE, _FEWEST = 0.25, 30
"""Least skill with each class weighted equally; fewest labels of each class."""
ERRORS = 3.0
"""Standard errors between the first and the last losses, where the loss of chance is unknown."""


def learning_of(evidence: Evidence) -> Learning:
    """Whether the trial learned, by the most certain sign there is; `shown` is False without any sign."""
    try:
        trial = evidence.trial
    except (NoEvidence, StriateError) as reason:
        return Learning(False, f"no training step could be tried: {one_line(str(reason))[:160]}")
    steps = several(len(trial.rows), "step")
    if trial.error is not None:
        return Learning(False, f"after {steps} a training step raises {type(trial.error).__name__}")
    if not trial.rows:
        return Learning(False, "no training step was made")
    if not all(map(math.isfinite, trial.losses[-10:])):
        return Learning(False, f"the loss is NaN or Inf after {steps}")
    if len(unchanged_parameters(trial)) == len(trial.replica.originals) and not trial.changed:
        return Learning(False, f"no parameter changed in {steps}")
    ignored = _targets_ignored(evidence)
    known = _by_predictions(evidence, steps, ignored)
    if evidence.setup.rivals and not (known is not None and known.shown):
        return Learning(False, "networks train against each other, so their losses do not show what they learn")
    if known is not None and (known.shown or ignored):  # a loss that ignores the targets may fall whatever is learned
        return known
    return _by_loss(evidence, trial, steps, known)


def _targets_ignored(evidence: Evidence) -> bool:
    """Whether the loss ignores targets that outputs can be compared with."""
    try:
        return not predicts_targets(evidence) and ignores_targets(evidence)
    except (NoEvidence, StriateError):
        return False


def _by_predictions(evidence: Evidence, steps: str, ignored: bool) -> Learning | None:
    """Judged by predictions for training batches, in evaluation or training mode; None where the outputs are no
    predictions. `ignored`: as `_targets_ignored`."""
    try:
        if not ignored and not predicts_targets(evidence):
            return None
        judged = [_judged(evidence.after), _judged(evidence.after_training)]
    except (NoEvidence, StriateError):
        return None
    found = [one for one in judged if one is not None]
    if not found:
        return None
    shown, _, text = max(found)
    return Learning(shown, f"{text} after {steps}" if shown else f"predictions are still at chance after {steps}")


def _judged(predictions: Predictions) -> tuple[bool, float, str] | None:
    """Whether predictions show learning, how good they are, and the same in words."""
    found = predictions.quality
    if found is None:
        return None
    if found.accuracy is not None and found.guesses and _rare_classes_found(predictions):
        return True, found.accuracy, skill_in_words(predictions)
    if found.accuracy is not None:
        return not found.guesses, found.accuracy, f"{percent(found.accuracy, 0)} of the training samples are right"
    explained = 1 - found.loss / max(found.constant, 1e-12)
    if found.kind == "numbers":  # R² needs predictions near the targets, not only proportional to them
        return explained >= FARTHER, explained, f"R² is {explained:.2f} on training samples"
    return (
        explained >= FARTHER,
        explained,
        f"the cross entropy is {found.loss:.3g}, that of a guess {found.constant:.3g},",
    )


def _loss_of_a_guess(evidence: Evidence) -> float | None:
    """The cross entropy of uniform predictions, where that is the loss of a step; None for other losses."""
    with suppress(NoEvidence, StriateError):
        calls = evidence.calls
        if len(calls.losses) == 1 and calls.losses[0].name == "cross_entropy" and calls.losses[0].input.ndim > 1:
            (call,) = calls.losses
            plain = call.weight is None and call.reduction == "mean"
            if plain and math.isclose(float(call.value), sum(calls.backward), rel_tol=1e-3):
                return math.log(call.input.shape[1])
    return None


def _rare_classes_found(predictions: Predictions) -> bool:
    """Whether rare classes are recognized although always predicting the most frequent class would be as accurate, as
    where most of a mask is background."""
    labels = predictions.targets
    if labels is None or labels.is_floating_point():
        return False
    counts = labels[labels >= 0].unique(return_counts=True)[1]
    return bool((counts >= _FEWEST).all()) and (skill(predictions) or 0.0) >= _RARE


def _by_loss(evidence: Evidence, trial: Trial, steps: str, known: Learning | None) -> Learning:
    """Judged by the loss: it is below that of chance, or, where that is unknown, well below the first losses; above
    them where the optimizer maximizes it."""
    if known is not None:
        try:
            progress = evidence.progress
            if progress.share >= FARTHER and math.isfinite(progress.level) and progress.chance < progress.start:
                text = f"the loss is {progress.level:.3g} after {steps}, that of a guess {progress.chance:.3g}"
                return Learning(True, text)
        except NoEvidence:
            pass
        return known
    count = max(3, len(trial.losses) // 4)
    first, last = trial.losses[:count], trial.losses[-count:]
    guess = _loss_of_a_guess(evidence)
    if guess is not None and (level := _mean(last)) > guess:
        return Learning(False, f"the loss is {level:.3g} after {steps}, that of a guess {guess:.3g}")
    if len(trial.losses) < 2 * count:
        return Learning(False, f"{steps} are too few to tell whether anything is learned")
    fallen = (_mean(first) - _mean(last)) * (-1 if trial.maximizes else 1)
    error = math.sqrt((_variance(first) + _variance(last)) / count)
    text = f"the loss went from {_mean(first):.3g} to {_mean(last):.3g} in {steps}"
    return Learning(fallen > ERRORS * error and fallen > FARTHER * abs(_mean(first)), text)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _variance(values: list[float]) -> float:
    mean = _mean(values)
    return sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)


def trains_a_part(evidence: Evidence) -> bool:
    """Whether less than a fifth of the network's parameters are trained."""
    held = parameters_held(evidence.fresh.optimizer)
    parameters = list(evidence.fresh.model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad and id(p) in held)
    return trained < _PART * sum(p.numel() for p in parameters)
