"""Validation inputs that were prepared otherwise than training inputs."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.looking import picture_of
from striate.doctor.checks.data.shift.asked_as_read import asked_as_read
from striate.doctor.checks.data.shift.judges import AT_ONCE, Judge, judges, some_batches
from striate.doctor.checks.data.shift.made_small import made_otherwise
from striate.doctor.checks.data.shift.normalized_apart import LEAST, NEARER, normalized_apart
from striate.doctor.checks.data.shift.prepared_apart import (
    CHANCE,
    FAR,
    MOST,
    OUTSIDE,
    SCALED,
    TOKENS,
    compared,
    deviations_apart,
    figures_of,
    input_distances,
    scaled_apart,
    smoothness_apart,
    tokens_apart,
)
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.corrections import Correction, corrections
from striate.doctor.evidence.draws import ALIKE, are_zoomed, drawn_twice, jitter, likeness
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import CallFailed, predict
from striate.doctor.evidence.quality import classes_of
from striate.doctor.evidence.samples import gathered
from striate.doctor.evidence.trial import Change, evaluated_loss
from striate.doctor.setup.batch import Path, altered
from striate.doctor.setup.syntax import called
from striate.records import Finding

GAP, GAIN, CERTAIN = 0.08, 0.1, 4.0
LOSS, LOSS_MENDED, _OF_START = 1.5, 1.15, 0.05
DEVIATIONS, FAR_WORSE, WIDER = 4.0, 3.0, 10.0
BEHIND = 0.12
_JITTER = 2.0
"""Times the usual distance between draws of a sample."""
_SMOOTHED = 0.3
_MOVES = ("exchanged", "turned by half", "turned by a quarter")
_CLEARER, _FEWEST_MOVED = 0.05, 3
"""A correlation; pairs of draws of which one is moved."""
_LEAST, _LEARNED = 0.25, 0.2
"""Of training, predicted right, and of the way there from a guess, without which nothing is asked."""
_SURE = 0.5
"""Of both, from which on a flip is believed: of fewer several ways to look at it may be."""
_REFUSED = "validation inputs of another shape or kind, which the network does not accept"
_MADE_SMALL = "inputs are targets that are downscaled in one way in training, and in another way in validation"
_MENDED = (
    f"validation is predicted worse than training by {GAP:g}, and one correction of its inputs makes {GAIN:g} more "
    f"of it right, by {CERTAIN:g} standard errors of the change, and three of that of runs of neighboring samples"
)
_UNPREPARED = (
    f"an evaluation passes the network unprepared inputs, and {GAIN:g} more are right with the scale of the "
    "training step"
)
_TOKENS_APART = (
    f"{TOKENS:.0%} of the pairs of neighboring tokens do not occur in training, {CHANCE:g} times as many as between "
    f"halves of training, and validation is predicted worse by {GAP:g}, or has {LOSS:g} times the loss"
)
_SMOOTHNESS = (
    f"half of validation is smoother or rougher than {1 - OUTSIDE:.0%} of training, and predicted worse by {BEHIND:g}"
)
_SCALES_APART = (
    f"scales that differ by {FAR:g}; correcting them lowers the loss from {LOSS:g} times that of training "
    f"({LOSS_MENDED:g} if standard deviations differ {SCALED:g} times) to {LOSS_MENDED:g} times, and by half of the "
    "gap"
)
_FAR_OFF = (
    f"means that are {DEVIATIONS:g} standard deviations of training apart, or standard deviations {WIDER:g} times "
    f"as large, and {FAR_WORSE:g} times the loss of training"
)
_COLUMN = (
    f"a table column that is shifted by {DEVIATIONS:g} of its standard deviations, and a validation loss above the "
    "first one until that is corrected"
)

_NUMBERS_APART = (
    "two data sets of the same class with different numbers; with those of training, the validation samples only "
    f"change in scale, and are at most {NEARER:g} times as far from training as before, which is {LEAST:g} or more"
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    train, val = evidence.samples, evidence.val_samples
    x, known = val.inputs, train.inputs
    made = made_otherwise(evidence)
    if made:
        yield _told(made, "warning", known, x, _MADE_SMALL)
        return
    refused = _refused(evidence, x, known)
    if refused:
        yield _told(compared(known, x) + refused, "error", known, x, _REFUSED)
        return
    if _prepared_by_step(evidence, known, x):
        raise NoEvidence("the step prepares training inputs, and validation inputs are already prepared")
    unprepared = _asked_unprepared(evidence, known, x)
    if unprepared is not None:
        yield unprepared
        return
    tokens = tokens_apart(known, x)
    for judge in judges(evidence, known, x):
        try:
            plain = judge.right(None)
        except OutOfTime:
            raise
        except NoEvidence:
            continue
        if judge.train - float(plain.mean()) < GAP or judge.train < _LEAST or judge.learned < _LEARNED:
            continue
        if tokens:
            words = (
                f"{judge.name} predicts {judge.train:.2f} of training and {float(plain.mean()):.2f} of validation right"
            )
            yield _told(f"{tokens}; {words}", "error", known, x, _TOKENS_APART)
            return
        ways = _unexplained(evidence, known, x)
        if judge.numbers and not input_distances(known, x):  # later parts of a series are a little higher or lower
            ways = [way for way in ways if "scale" not in way.what]
        best = _best(judge, plain, ways)
        if best is None:
            behind = judge.train - float(plain.mean()) >= max(BEHIND, 3 * float(plain.std()) / len(plain) ** 0.5)
            other = smoothness_apart(evidence, known, x) if behind else ""
            if other:
                words = (
                    f"{judge.name} predicts {judge.train:.2f} of training and {float(plain.mean()):.2f} of validation "
                    "right"
                )
                yield _told(f"{other}; {words}", "warning", known, x, _SMOOTHNESS)
                return
            continue
        correction, fixed = best
        sure = min(judge.train, judge.learned) >= _SURE
        if correction.what.endswith(_MOVES) and (not sure or _drawn(evidence, correction)):
            continue
        own = float(plain.mean())
        words = (
            f"; {judge.name} predicts {judge.train:.2f} of training and {own:.2f} of validation right, and "
            f"{fixed:.2f} of validation if this is undone: {correction.what}"
        )
        drawn = picture_of("Training beside validation", [*known[:2], *x[:2]], ["training"] * 2 + ["validation"] * 2)
        if drawn is not None:
            evidence.pictures["data.shift"] = drawn
        severity = "error" if fixed - own >= 2 * GAIN else "warning"
        yield _told(compared(known, x) + words, severity, known, x, _MENDED)
        return
    found = list(_by_loss(evidence, known, x, tokens)) or list(_of_tables(evidence))
    yield from found
    apart = "" if found else normalized_apart(evidence, known)
    if apart:
        yield _told(apart, "warning", known, x, _NUMBERS_APART)


def _asked_unprepared(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> Finding | None:
    """Where the step prepares what both loaders yield, and an evaluation of the script's does not."""
    shown, y = evidence.first.shown, evidence.val_samples.y
    if shown is None or not shown.is_floating_point() or y is None or y.is_floating_point() or len(y) != len(x):
        return None
    given = shown.detach().cpu().float()
    alike = given.shape[1:] == x.shape[1:] and not input_distances(known, x)
    if evidence.setup.source is None or not alike or not input_distances(given, x):
        return None
    site = asked_as_read(evidence)
    if site is None:
        return None

    def right(change: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
        asked = (x[:MOST] if change is None else change(x[:MOST])).to(shown.dtype)
        found = predict(evidence.setup, evidence.trial.replica, asked.split(AT_ONCE), directly=True)
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
    best = _best(Judge("", 1.0, right), plain, ways)
    if best is None:
        return None
    words = (
        f"the step gives the network {figures_of(given)}, but `{site.text}` ({site.where}) gives it unprepared "
        f"inputs of {figures_of(x)}: the trial's network predicts {float(plain.mean()):.2f} of validation right, "
        f"and {best[1]:.2f} if they are prepared as in training"
    )
    severity = "error" if best[1] - float(plain.mean()) >= 2 * GAIN else "warning"
    return _told(words, severity, known, x, _UNPREPARED)


def _prepared_by_step(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether what the step gives the network has the scale of validation, and what the loader yields has not."""
    given = evidence.first.shown
    if given is None or not given.is_floating_point() or given.shape[1:] != x.shape[1:]:
        return False
    return input_distances(known, x) and not input_distances(given.detach().cpu(), x)


def _unexplained(evidence: Evidence, known: torch.Tensor, x: torch.Tensor) -> list[Correction]:
    """The corrections, but for such as undo what augmentation does to training: crops where it crops, and a scale where
    draws of a sample are as far apart."""
    found = list(corrections(known, x))
    if _prepared_when_asked(evidence):
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


def _prepared_when_asked(evidence: Evidence) -> bool:
    """Whether the script evaluates by `network(prepare(x))`, and does not train so: what lies there for validation is
    not what is asked."""
    source = evidence.setup.source
    if source is None:
        return False
    nodes = source.nodes()
    asked = (node for node in nodes if isinstance(node, ast.Call) and node.args and source.runs_network(node))
    given = [part for node in asked for part in ast.walk(node.args[0]) if isinstance(part, ast.Call)]
    made = [(called(part), source.without_gradient(part)) for part in given if source.functions_of(part)]
    trained = {name for name, untracked in made if not untracked}
    return any(untracked and name not in trained for name, untracked in made)


def _drawn(evidence: Evidence, way: Correction) -> bool:
    """Whether some draws of a training sample are like others once the correction is made, and clearly less without:
    training has both, and where validation is predicted worse for that, it is for targets that did not move along."""
    with suppress(NoEvidence):
        pairs = [(one, other, likeness(one, way.undo(other[None])[0])) for one, other in drawn_twice(evidence)]
        moved = [undone >= max(ALIKE, likeness(one, other) + _CLEARER) for one, other, undone in pairs]
        return sum(moved) >= _FEWEST_MOVED
    return False


def _by_loss(evidence: Evidence, known: torch.Tensor, x: torch.Tensor, tokens: str) -> Iterable[Finding]:
    """Where predictions are not right or wrong, or the trial was too short for right ones: scales far apart, and a
    loss of validation that falls to that of training once they are put right."""
    path, batches = evidence.val_samples.x_path, some_batches(evidence.val)
    own, val = evidence.after.loss, evidence.after_val.loss
    by_step = own != own  # the loss is of more than outputs and targets
    ask = _by_step(evidence) if by_step else _by_predictions(evidence)
    if by_step:
        own, val = ask(evidence.train.raw[: len(batches)]), ask(batches)
    if tokens and val > LOSS * own > 0:
        words = f"the loss is {own:.3g} for training and {val:.3g} for validation"
        yield _told(f"{tokens}; {words}", "error", known, x, _TOKENS_APART)
        return
    apart = by_step or input_distances(known, x)
    least = LOSS_MENDED if scaled_apart(known, x) else LOSS
    if path is None or not apart or not own > 0 or not (val > least * own or val != val):
        return
    if val - own < _OF_START * evidence.trial.losses[0]:  # next to nothing: a single sample may be it
        return
    prepared = _prepared_when_asked(evidence)
    for way in corrections(known, x):
        scaled = "scale" in way.what
        if (scaled and prepared) or not (scaled or by_step):
            continue
        fixed = ask([altered(batch, path, way.undo) for batch in batches])
        enough = LOSS_MENDED * own if val != val else min(LOSS_MENDED * own, own + (val - own) / 2)
        if fixed <= enough and not _helps_training(evidence, evidence.samples.x_path, way, ask, own, len(batches)):
            words = (
                f"; the loss is {own:.3g} for training and {val:.3g} for validation, and {fixed:.3g} if this is undone"
            )
            yield _told(f"{compared(known, x)}{words}: {way.what}", "error", known, x, _SCALES_APART)
            return
    deviations = 0.0 if prepared else deviations_apart(known, x)
    if deviations > DEVIATIONS and (val > FAR_WORSE * own or val != val):
        words = f"; the loss is {own:.3g} for training and {val:.3g} for validation"
        said = f"{compared(known, x)}: the means are {deviations:.2g} standard deviations apart{words}"
        yield _told(said, "error", known, x, _FAR_OFF)
        return
    wider = 0.0 if prepared or not scaled_apart(known, x) else float(x.double().std() / known.double().std())
    if wider > WIDER and (val > FAR_WORSE * own or val != val):
        words = f"; the loss is {own:.3g} for training and {val:.3g} for validation"
        said = f"{compared(known, x)}: the standard deviation is {wider:.2g} times as large{words}"
        yield _told(said, "error", known, x, _FAR_OFF)


def _of_tables(evidence: Evidence) -> Iterable[Finding]:
    """Of each table that the network is given, also beside others, a column far from where it was in training, where
    the loss of validation, which may be below zero, is above the first one, and comes near that of training once that
    is put right."""
    train, batches, start = evidence.samples, some_batches(evidence.val), evidence.trial.losses[0]
    shown = evidence.train.raw[: len(batches)]
    for path in dict.fromkeys((train.x_path, *train.joined_paths)):
        known, x = (gathered(part.raw, path) for part in (evidence.train, evidence.val))
        if path is None or known is None or x is None or known.ndim != 2 or known.shape[1:] != x.shape[1:]:
            continue
        mean, spread, other = known.double().mean(0), known.double().std(0), x.double().mean(0)
        gaps = torch.where(spread > 0, (mean - other).abs() / spread, 0.0)
        column = int(gaps.argmax())
        if not known.is_floating_point() or float(gaps[column]) < DEVIATIONS or _prepared_when_asked(evidence):
            continue
        ask = _by_step(evidence)
        own, val = ask(shown), ask(batches)
        for way in corrections(known, x) if own < start < val else ():
            fixed = ask([altered(batch, path, way.undo) for batch in batches])
            if fixed <= own + (val - own) / 2 and not _helps_training(evidence, path, way, ask, own, len(batches)):
                measured = (
                    f"the mean of column {column} is {float(mean[column]):.3g} in training, with a standard "
                    f"deviation of {float(spread[column]):.3g}, and {float(other[column]):.3g} in validation; the "
                    f"loss is {own:.3g} for training and {val:.3g} for validation, and {fixed:.3g} if this is "
                    f"undone: {way.what}"
                )
                yield _told(measured, "error", known, x, _COLUMN)
                return


def _helps_training(
    evidence: Evidence,
    place: Path | None,
    way: Correction,
    ask: Callable[[Sequence[Any]], float],
    own: float,
    count: int,
) -> bool:
    """Whether training inputs, changed so, have a smaller loss as well: then it undoes nothing."""
    return place is not None and ask([altered(batch, place, way.undo) for batch in evidence.train.raw[:count]]) < own


def _by_predictions(evidence: Evidence) -> Callable[[Sequence[Any]], float]:
    return lambda batches: evidence.predictions_of(evidence.trial, batches).loss


def _by_step(evidence: Evidence) -> Callable[[Sequence[Any]], float]:
    """Asks the user's step, since the loss is of more than outputs and targets."""
    trial = evidence.variant("asked for losses", Change())
    return lambda batches: evaluated_loss(trial, batches, evidence.clock.until(0.1))


def _refused(evidence: Evidence, x: torch.Tensor, known: torch.Tensor) -> str:
    """What the network raises for validation inputs of another shape or kind; `` where it takes them. Raises NoEvidence
    where it doesn't take such of other axes, which a script has under a name of validation: they are those of another
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


def _best(judge: Judge, plain: torch.Tensor, ways: list[Correction]) -> tuple[Correction, float] | None:
    """The way that makes most of validation right, where that is no chance."""
    best: tuple[Correction, float] | None = None
    for way in ways:
        try:
            fixed = judge.right(way.undo)
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
        # Networks for any size lose something by another one; a reader of the figures is to be told of a good deal.
        least = 2 * GAIN if "size" in way.what else GAIN
        # The plainest one of those that do about as well.
        if gain >= least and gain >= CERTAIN * error and (best is None or float(fixed.mean()) > best[1] + 0.03):
            best = way, float(fixed.mean())
    # What helps training inputs as well undoes nothing: the network is better at inputs of that kind.
    return best if best is not None and judge.gained(best[0]) < (best[1] - float(plain.mean())) / 4 else None


_RUNS, _SHARE_OF_RUNS = 16, 0.75
"""Three standard errors of runs are enough where four of samples are asked for: in sorted data runs are classes, which
gain more or less by nature."""


def _error_of_runs(change: torch.Tensor) -> float:
    """The standard error of a mean, from the means of runs of samples: those beside each other may be alike, as frames
    of a film are, and are then hardly more evidence than one of them."""
    runs = torch.stack([run.mean() for run in change.tensor_split(min(_RUNS, len(change)))])
    return float(runs.std()) / math.sqrt(len(runs))


def _told(measured: str, severity: str, known: torch.Tensor, x: torch.Tensor, limit: str) -> Finding:
    shape = known.shape[1:] != x.shape[1:] or known.dtype != x.dtype
    return SHIFT.finding(
        severity="error" if severity == "error" else "warning",
        where="validation inputs",
        measured=measured,
        limit=limit,
        why="Validation data differ from what the network learned: the validation metrics do not measure what it "
        "learned.",
        remedy="Prepare both in one function, with mean and standard deviation of training: `def prepare(x): return "
        "(x.float() / 255 "
        "- mean) / std`, `train = prepare(train); val = prepare(val)`; the same reader, vocabulary, channel order"
        + (", size and number format." if shape else " and size. Only what is random belongs to training alone."),
    )


SHIFT = Check(
    codes=("data.shift",),
    question="Are validation inputs prepared like training inputs?",
    run=_run,
    quick=False,
    explains="model.mode fit.*",
)
