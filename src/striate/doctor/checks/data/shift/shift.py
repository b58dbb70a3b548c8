"""`data.shift`: validation inputs that are preprocessed differently from training inputs."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import picture_of
from striate.doctor.checks.data.labels.above_chance import better_than_chance, held_out, validation_predictions
from striate.doctor.checks.data.shift.downscaled_inputs import downscaled_differently
from striate.doctor.checks.data.shift.input_statistics import (
    CHANCE,
    FAR,
    MOST,
    OUTSIDE,
    SCALED,
    TOKENS,
    compared,
    deviations_apart,
    far_apart,
    scaled_apart,
    smoothness_apart,
    statistics_of,
    tokens_apart,
)
from striate.doctor.checks.data.shift.normalization_constants import (
    LEAST,
    NEARER,
    differing_constants,
    differing_test_constants,
)
from striate.doctor.checks.data.shift.scored_models import AT_ONCE, ScoredModel, scored_models, some_batches
from striate.doctor.checks.data.shift.unprepared_evaluation import unprepared_call
from striate.doctor.checks.data.shift.unscaled_test import WORSE, unscaled_test
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.corrections import Correction, corrections
from striate.doctor.evidence.draws import ALIKE, are_zoomed, drawn_twice, jitter, likeness
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import CallFailed, predict
from striate.doctor.evidence.quality import classes_of
from striate.doctor.evidence.samples import class_numbers, gathered
from striate.doctor.evidence.skill import skill
from striate.doctor.evidence.trial import Change, evaluated_loss
from striate.doctor.setup.batch import Path, altered
from striate.doctor.setup.syntax import called, nodes_in
from striate.records import Finding
from striate.wording import percent, several

GAP, GAIN, CERTAIN = 0.08, 0.1, 4.0
LOSS, LOSS_CORRECTED, _OF_START = 1.5, 1.15, 0.05
_LEFT, _LOW = 1 / 3, 0.25
"""If the scales of training and validation are far apart: the share of the gap between the losses that may be left, and
the share of the first training loss."""
DEVIATIONS, FAR_WORSE, WIDER = 4.0, 3.0, 10.0
BEHIND = 0.12
_JITTER = 2.0
"""Multiples of the usual difference between draws of a sample."""
_SMOOTHED = 0.3
_MOVES = ("exchanged", "turned by half", "turned by a quarter")
_CLEARER, _FEWEST_MOVED = 0.05, 3
"""A difference of correlations; the fewest pairs of draws with a move between them."""
_LEAST, _LEARNED = 0.25, 0.2
"""The least training score of a model, and the least rescaled one, to compare it."""
_SURE = 0.5
"""The least of both scores for a finding about flips: weaker models may prefer a flip by chance."""
_REFUSED = "validation inputs of another shape or kind, which the network does not accept"
_DOWNSCALED = "inputs are targets that are downscaled in one way in training, and in another way in validation"
_CORRECTED = (
    f"validation is predicted worse than training by {GAP:g}, and one correction of its inputs raises its score by "
    f"{GAIN:g}, which is {CERTAIN:g} standard errors of samples, and three of runs of neighboring samples"
)
_UNPREPARED = (
    f"an evaluation passes the network unprepared inputs, and {GAIN:g} more are right with the scale of the "
    "training step"
)
_TOKENS_APART = (
    f"{percent(TOKENS, 0)} of the pairs of neighboring tokens do not occur in training, {CHANCE:g} times as many as "
    f"between halves of training, and validation is predicted worse by {GAP:g}, or has {LOSS:g} times the loss"
)
_SMOOTHNESS = (
    f"half of validation is smoother or rougher than {percent(1 - OUTSIDE, 0)} of training, and predicted worse by "
    f"{BEHIND:g}"
)
_UNSCALED = (
    f"test inputs with a standard deviation that differs {SCALED:g} times, and {WORSE:g} times the loss that they have "
    "in the scale of training"
)
_SCALES_APART = (
    f"scales that differ by {FAR:g}; correcting them lowers the loss from {LOSS:g} times that of training "
    f"({LOSS_CORRECTED:g} if standard deviations differ {SCALED:g} times) to {LOSS_CORRECTED:g} times, and by half of "
    "the gap, or by two thirds of it"
)
_FAR_OFF = (
    f"means that are {DEVIATIONS:g} standard deviations of training apart, or standard deviations {WIDER:g} times "
    f"as large, and {FAR_WORSE:g} times the loss of training"
)
_COLUMN = (
    f"a table column that is shifted by {DEVIATIONS:g} of its standard deviations, and a validation loss above the "
    "first one until that is corrected"
)

_FEWEST_AT_CHANCE, _CARRIED = 100, 0.5
"""Fewest validation samples; least skill for held-out training samples, 0 for a constant prediction and 1 for right
ones."""
_AT_CHANCE = (
    f"for images and tokens: held-out training samples are predicted with a skill of {_CARRIED:g} or more, and "
    f"{_FEWEST_AT_CHANCE} validation samples of the same classes at chance"
)
_NUMBERS_APART = (
    "two data sets of the same class with different constants; with those of training, the samples of the other one "
    f"only change in scale, and their distance from training ({LEAST:g} or more) falls to at most {NEARER:g} of that"
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    train, val = evidence.samples, evidence.val_samples
    x, known = val.inputs, train.inputs
    made = downscaled_differently(evidence)
    if made:
        yield _finding(made, "warning", known, x, _DOWNSCALED)
        return
    refused = _refused(evidence, x, known)
    if refused:
        yield _finding(compared(known, x) + refused, "error", known, x, _REFUSED)
        return
    if _prepared_by_step(evidence, known, x):
        raise NoEvidence("the step prepares training inputs, and validation inputs are already prepared")
    unprepared = _evaluates_unprepared(evidence, known, x)
    if unprepared is not None:
        yield unprepared
        return
    tokens = tokens_apart(known, x)
    for model in scored_models(evidence, known, x):
        try:
            plain = model.right(None)
        except OutOfTime:
            raise
        except NoEvidence:
            continue
        if model.train - float(plain.mean()) < GAP or model.train < _LEAST or model.learned < _LEARNED:
            continue
        if tokens:
            words = (
                f"{model.name} predicts {model.train:.2f} of training and {float(plain.mean()):.2f} of validation right"
            )
            yield _finding(f"{tokens}; {words}", "error", known, x, _TOKENS_APART)
            return
        ways = _unexplained(evidence, known, x)
        if model.numbers and not far_apart(known, x):  # later parts of a time series may be a little higher or lower
            ways = [way for way in ways if "scale" not in way.what]
        best = _best_correction(model, plain, ways)
        if best is None:
            behind = model.train - float(plain.mean()) >= max(BEHIND, 3 * float(plain.std()) / len(plain) ** 0.5)
            other = smoothness_apart(evidence, known, x) if behind else ""
            if other:
                words = (
                    f"{model.name} predicts {model.train:.2f} of training and {float(plain.mean()):.2f} of validation "
                    "right"
                )
                yield _finding(f"{other}; {words}", "warning", known, x, _SMOOTHNESS)
                return
            continue
        correction, fixed = best
        sure = min(model.train, model.learned) >= _SURE
        if correction.what.endswith(_MOVES) and (not sure or _occurs_in_draws(evidence, correction)):
            continue
        own = float(plain.mean())
        words = (
            f"; {model.name} predicts {model.train:.2f} of training and {own:.2f} of validation right, and "
            f"{fixed:.2f} of validation if this is undone: {correction.what}"
        )
        drawn = picture_of("Training beside validation", [*known[:2], *x[:2]], ["training"] * 2 + ["validation"] * 2)
        if drawn is not None:
            evidence.pictures["data.shift"] = drawn
        severity = "error" if fixed - own >= 2 * GAIN else "warning"
        yield _finding(compared(known, x) + words, severity, known, x, _CORRECTED)
        return
    found = list(_by_loss(evidence, known, x, tokens)) or list(_of_tables(evidence))
    yield from found
    apart = "" if found else differing_constants(evidence, known) or differing_test_constants(evidence, known)
    if apart:
        yield _finding(apart, "warning", known, x, _NUMBERS_APART)
    elif not found and (unscaled := unscaled_test(evidence, known)):
        yield replace(_finding(unscaled, "error", known, x, _UNSCALED), where="test inputs")
    elif not found and (unlike := _nothing_carries_over(evidence, known)):
        yield _finding(unlike, "error", known, x, _AT_CHANCE)


def _nothing_carries_over(evidence: Evidence, known: torch.Tensor) -> str:
    """What was measured, where the network predicts held-out training samples, of images or tokens, and validation at
    chance; else empty. Windows of a series are left out: they overlap in training."""
    val = validation_predictions(evidence)
    if (known.is_floating_point() and known.ndim < 4) or val is None or val.targets is None:
        return ""
    known_classes, classes = class_numbers(evidence.samples.y), class_numbers(val.targets)
    if known_classes is None or classes is None or len(classes) < _FEWEST_AT_CHANCE or better_than_chance(val):
        return ""
    if not set(classes.unique().tolist()) <= set(known_classes.unique().tolist()):
        return ""
    held = held_out(evidence)
    if held is None:
        return ""
    trial = evidence.variant("held out", Change(), batches=held[0])
    own = None if trial.error is not None else evidence.predictions_of(trial, held[1])
    # The trial on all batches, whose predictions these are, may have learned nothing.
    if (
        own is None
        or (skill(own) or 0.0) < _CARRIED
        or better_than_chance(evidence.predictions_of(trial, evidence.val.raw))
    ):
        return ""
    moves = (way for way in corrections(known, evidence.val_samples.inputs) if way.what.endswith(_MOVES))
    if any(_occurs_in_draws(evidence, way) for way in moves):
        return ""  # targets that do not move with the inputs are no shift
    return (
        f"{percent(own.accuracy, 0)} of {several(len(own.outputs), 'held-out training sample')} are predicted right, "
        f"and {percent(val.accuracy, 0)} of {several(len(classes), 'validation sample')}, which is chance"
    )


def _evaluates_unprepared(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> Finding | None:
    """A finding if the step preprocesses the batches of both loaders, but an evaluation of the script does not; else
    None."""
    shown, y = evidence.first.shown, evidence.val_samples.y
    if shown is None or not shown.is_floating_point() or y is None or y.is_floating_point() or len(y) != len(x):
        return None
    given = shown.detach().cpu().float()
    alike = given.shape[1:] == x.shape[1:] and not far_apart(known, x)
    if evidence.setup.source is None or not alike or not far_apart(given, x):
        return None
    site = unprepared_call(evidence)
    if site is None:
        return None

    def right(change: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
        inputs = (x[:MOST] if change is None else change(x[:MOST])).to(shown.dtype)
        found = predict(evidence.setup, evidence.trial.replica, inputs.split(AT_ONCE), directly=True)
        classes = classes_of(found.outputs, y[:MOST])
        if classes is None:
            raise NoEvidence("it is unknown which predictions are right")
        return (classes == y[:MOST]).double().reshape(len(classes), -1).mean(1)

    try:
        plain = right(None)
    except OutOfTime:
        raise
    except NoEvidence:
        return None
    ways = [way for way in corrections(given, x) if way.what.startswith("scale")]
    best = _best_correction(ScoredModel("", 1.0, right), plain, ways)
    if best is None:
        return None
    words = (
        f"the step gives the network {statistics_of(given)}, but `{site.text}` ({site.where}) gives it unprepared "
        f"inputs of {statistics_of(x)}: the trial's network predicts {float(plain.mean()):.2f} of validation right, "
        f"and {best[1]:.2f} if they are prepared as in training"
    )
    severity = "error" if best[1] - float(plain.mean()) >= 2 * GAIN else "warning"
    return _finding(words, severity, known, x, _UNPREPARED)


def _prepared_by_step(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether inputs of the network have the scale of validation, but those of the training loader do not."""
    given = evidence.first.shown
    if given is None or not given.is_floating_point() or given.shape[1:] != x.shape[1:]:
        return False
    return far_apart(known, x) and not far_apart(given.detach().cpu(), x)


def _unexplained(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> list[Correction]:
    """The corrections without those that undo augmentation of training: crops if it crops, and scales if draws of a
    sample differ as much."""
    found = list(corrections(known, x))
    if _prepared_in_evaluation(evidence):
        found = [way for way in found if "scale" not in way.what]
    try:
        pairs = drawn_twice(evidence)
    except NoEvidence:
        pairs = []
    if not pairs:
        return found
    zoomed = are_zoomed(pairs)
    if zoomed:
        found = [way for way in found if not way.what.startswith(("shown at", "cropped to"))]
    contrast, light = jitter(pairs)
    one, other = float(known.double().std()), float(x.double().std())
    if one <= 0 or other <= 0:
        return found
    gap = abs(float(known.double().mean()) - float(x.double().mean())) / one
    sharper = zoomed and 0 < math.log(other / one) <= _SMOOTHED and gap <= _SMOOTHED  # enlarged pixels are smoother
    if sharper or (abs(math.log(other / one)) <= _JITTER * contrast and gap <= _JITTER * light):
        found = [way for way in found if "scale" not in way.what]
    return found


def _prepared_in_evaluation(evidence: Evidence) -> bool:
    """Whether the script evaluates by `network(prepare(x))`, but does not train like this: then the validation loader
    does not yield the inputs of the network."""
    source = evidence.setup.source
    if source is None:
        return False
    nodes = source.nodes()
    calls = (node for node in nodes if isinstance(node, ast.Call) and node.args and source.runs_network(node))
    given = [part for node in calls for part in nodes_in(node.args[0], ast.Call)]
    preparations = [(called(part), source.without_gradient(part)) for part in given if source.functions_of(part)]
    trained = {name for name, untracked in preparations if not untracked}
    return any(untracked and name not in trained for name, untracked in preparations)


def _occurs_in_draws(evidence: Evidence, way: Correction) -> bool:
    """Whether some draws of a training sample are like others with the correction, and clearly less without. Then
    training contains both, and validation is predicted worse because targets did not move along."""
    with suppress(NoEvidence):
        pairs = [(one, other, likeness(one, way.undo(other[None])[0])) for one, other in drawn_twice(evidence)]
        moved = [undone >= max(ALIKE, likeness(one, other) + _CLEARER) for one, other, undone in pairs]
        return sum(moved) >= _FEWEST_MOVED
    return False


def _by_loss(evidence: Evidence, known: torch.Tensor, x: torch.Tensor, tokens: str) -> Iterable[Finding]:
    """If predictions have no accuracy, or the trial was too short: scales that are far apart, and a validation loss
    that falls to that of training once they are corrected."""
    path, batches = evidence.val_samples.x_path, some_batches(evidence.val)
    own, val = evidence.after.loss, evidence.after_val.loss
    by_step = own != own  # the loss depends on more than outputs and targets
    ask = _by_step(evidence) if by_step else _by_predictions(evidence)
    if by_step:
        own, val = ask(evidence.train.raw[: len(batches)]), ask(batches)
    if tokens and val > LOSS * own > 0:
        words = f"the loss is {own:.3g} for training and {val:.3g} for validation"
        yield _finding(f"{tokens}; {words}", "error", known, x, _TOKENS_APART)
        return
    apart = by_step or far_apart(known, x)
    least = LOSS_CORRECTED if scaled_apart(known, x) else LOSS
    if path is None or not apart or not own > 0 or not (val > least * own or val != val):
        return
    if val - own < _OF_START * evidence.trial.losses[0]:  # a single sample may cause such a small difference
        return
    prepared = _prepared_in_evaluation(evidence)
    for way in corrections(known, x):
        scaled = "scale" in way.what
        if (scaled and prepared) or not (scaled or by_step):
            continue
        fixed = ask([altered(batch, path, way.undo) for batch in batches])
        enough = LOSS_CORRECTED * own if val != val else min(LOSS_CORRECTED * own, own + (val - own) / 2)
        if scaled and far_apart(known, x) and val == val:  # the network generalizes less well than it fits
            enough = max(enough, min(own + (val - own) * _LEFT, _LOW * evidence.trial.losses[0]))
        gain = 0.0 if val != val else val - fixed
        if fixed <= enough and not _helps_training(evidence, evidence.samples.x_path, way, ask, own, gain):
            words = (
                f"; the loss is {own:.3g} for training and {val:.3g} for validation, and {fixed:.3g} if this is undone"
            )
            yield _finding(f"{compared(known, x)}{words}: {way.what}", "error", known, x, _SCALES_APART)
            return
    deviations = 0.0 if prepared else deviations_apart(known, x)
    if deviations > DEVIATIONS and (val > FAR_WORSE * own or val != val):
        words = f"; the loss is {own:.3g} for training and {val:.3g} for validation"
        measured = f"{compared(known, x)}: the means are {deviations:.2g} standard deviations apart{words}"
        yield _finding(measured, "error", known, x, _FAR_OFF)
        return
    wider = 0.0 if prepared or not scaled_apart(known, x) else float(x.double().std() / known.double().std())
    if wider > WIDER and (val > FAR_WORSE * own or val != val):
        words = f"; the loss is {own:.3g} for training and {val:.3g} for validation"
        measured = f"{compared(known, x)}: the standard deviation is {wider:.2g} times as large{words}"
        yield _finding(measured, "error", known, x, _FAR_OFF)


def _of_tables(evidence: Evidence) -> Iterable[Finding]:
    """A table column whose mean in validation is far from that in training, if the validation loss is above the first
    training loss, and comes near the final one once the column is corrected. Losses may be negative, and networks may
    get several tables."""
    train, batches, start = evidence.samples, some_batches(evidence.val), evidence.trial.losses[0]
    shown = evidence.train.raw[: len(batches)]
    for path in dict.fromkeys((train.x_path, *train.joined_paths)):
        known, x = (gathered(part.raw, path) for part in (evidence.train, evidence.val))
        if path is None or known is None or x is None or known.ndim != 2 or known.shape[1:] != x.shape[1:]:
            continue
        mean, deviation, other = known.double().mean(0), known.double().std(0), x.double().mean(0)
        gaps = torch.where(deviation > 0, (mean - other).abs() / deviation, 0.0)
        column = int(gaps.argmax())
        if not known.is_floating_point() or float(gaps[column]) < DEVIATIONS or _prepared_in_evaluation(evidence):
            continue
        ask = _by_step(evidence)
        own, val = ask(shown), ask(batches)
        for way in corrections(known, x) if own < start < val else ():
            fixed = ask([altered(batch, path, way.undo) for batch in batches])
            if fixed <= own + (val - own) / 2 and not _helps_training(evidence, path, way, ask, own, val - fixed):
                measured = (
                    f"the mean of column {column} is {float(mean[column]):.3g} in training, with a standard "
                    f"deviation of {float(deviation[column]):.3g}, and {float(other[column]):.3g} in validation; the "
                    f"loss is {own:.3g} for training and {val:.3g} for validation, and {fixed:.3g} if this is "
                    f"undone: {way.what}"
                )
                yield _finding(measured, "error", known, x, _COLUMN)
                return


def _helps_training(
    evidence: Evidence,
    place: Path | None,
    way: Correction,
    ask: Callable[[Sequence[Any]], float],
    own: float,
    gain: float,
) -> bool:
    """Whether the correction also lowers the loss of training inputs, by a quarter of what it gains in validation: then
    it does not undo a difference."""
    shown = evidence.train.raw[: len(some_batches(evidence.val))]
    return place is not None and ask([altered(batch, place, way.undo) for batch in shown]) < own - gain / 4


def _by_predictions(evidence: Evidence) -> Callable[[Sequence[Any]], float]:
    return lambda batches: evidence.predictions_of(evidence.trial, batches).loss


def _by_step(evidence: Evidence) -> Callable[[Sequence[Any]], float]:
    """Losses of the user's step, for losses that depend on more than outputs and targets."""
    trial = evidence.variant("asked for losses", Change())
    return lambda batches: evaluated_loss(trial, batches, evidence.clock.until(0.1))


def _refused(evidence: Evidence, x: torch.Tensor, known: torch.Tensor) -> str:
    """The error that the network raises for validation inputs of another shape or dtype; empty if it accepts them.
    Raises NoEvidence if their number of axes differs in a script: a variable named for validation belongs to another
    network."""
    if x.shape[1:] == known.shape[1:] and x.dtype == known.dtype:
        return ""
    try:
        _ = evidence.start
    except NoEvidence:
        return ""
    try:
        _ = evidence.start_val
    except CallFailed as reason:
        source = evidence.setup.source
        if source is not None and source.library is None and x.ndim != known.ndim:
            raise NoEvidence("the variable named for validation belongs to another network") from None
        return f"; {reason}"
    return ""


def _best_correction(
    model: ScoredModel, plain: torch.Tensor, ways: list[Correction]
) -> tuple[Correction, float] | None:
    """The correction with the highest validation score, and that score, if the gain is beyond chance; else None."""
    best: tuple[Correction, float] | None = None
    for way in ways:
        try:
            fixed = model.right(way.undo)
        except OutOfTime:
            raise
        except NoEvidence:  # the network does not take such inputs
            continue
        if len(fixed) != len(plain):
            continue
        change = fixed - plain
        error = max(
            float(change.std()) / len(change) ** 0.5, 0.5 / len(change), _SHARE_OF_RUNS * _error_of_runs(change)
        )
        gain = float(change.mean())
        # Networks for any size lose a little at another size: only report a large gain.
        least = 2 * GAIN if "size" in way.what else GAIN
        # Of corrections with similar gains, the first is the simplest.
        if gain >= least and gain >= CERTAIN * error and (best is None or float(fixed.mean()) > best[1] + 0.03):
            best = way, float(fixed.mean())
    # If the correction also helps training inputs, it does not undo a difference.
    return best if best is not None and model.gained(best[0]) < (best[1] - float(plain.mean())) / 4 else None


_RUNS, _SHARE_OF_RUNS = 16, 0.75
"""For runs of samples three standard errors suffice instead of four: in sorted data, runs are classes, whose gains
differ."""


def _error_of_runs(change: torch.Tensor) -> float:
    """The standard error of a mean, from the means of runs of samples: neighbors may be similar, such as frames of a
    video, and then hardly count more than one sample."""
    runs = torch.stack([run.mean() for run in change.tensor_split(min(_RUNS, len(change)))])
    return float(runs.std()) / math.sqrt(len(runs))


def _finding(measured: str, severity: str, known: torch.Tensor, x: torch.Tensor, limit: str) -> Finding:
    shape = known.shape[1:] != x.shape[1:] or known.dtype != x.dtype
    return SHIFT.finding(
        severity="error" if severity == "error" else "warning",
        where="validation inputs",
        measured=measured,
        limit=limit,
        why="Validation data differ from what the network learned: the validation metrics do not measure what it "
        "learned.",
        remedy="Prepare both in one function, with mean and standard deviation of training: `def prepare(x): return "
        "(x.float() - mean) / std`, `train = prepare(train); val = prepare(val)`; the same reader, vocabulary, channel "
        "order"
        + (", size and number format." if shape else " and size. Only what is random belongs to training alone."),
    )


SHIFT = Check(
    codes=("data.shift",),
    run=_run,
    quick=False,
    explains="model.mode fit.*",
)
