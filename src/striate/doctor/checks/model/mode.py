"""`model.mode`: do dropout and batch norm work as they should, in training and in evaluation?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import call_text
from striate.doctor.checks.model.variants import eval_outputs, largest_difference
from striate.doctor.evidence.call_graph import OUTSIDE_TENSOR, Call, CallGraph
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import output_of, predict
from striate.doctor.evidence.rates import passes_planned, steps_an_epoch
from striate.doctor.setup.batch import copied, leaves, main_tensor, parts
from striate.models.preserved_state import preserved, same_random_state
from striate.records import Finding, Severity
from striate.wording import listed_names, percent, several

CODE = "model.mode"
DIFFERENT = 1e-3
"""In standard deviations of the predictions; rounding is a thousand times smaller."""
_STAYS = 3
"""Fewest steps in evaluation mode after the last step in training mode, which an evaluation ended."""
_ARRIVED = 0.7
"""Momentum times batches; below it, half of the initial running statistics is left."""
_EPOCHS, _TWICE, _FEWER_RIGHT = 10, 2.0, 0.02
"""Where the epochs are unknown: `_EPOCHS` that a momentum should need at most; `_TWICE`: ratio of the losses after the
trial, and `_FEWER_RIGHT` of the accuracies the difference, from which on evaluation mode is much worse."""
_NEWEST, _SINGLE, _POOLED, _WORSE = 0.9, 4, 8, 1.01
"""`_NEWEST`: weight of the newest batch, from which on the statistics are those of that batch; `_SINGLE`: batches that
are tried as the last one; `_POOLED`: batches that are measured together; `_WORSE`: ratio of the two losses."""
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_DROPOUT = nn.modules.dropout._DropoutNd
_FUNCTIONS = """
dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout bernoulli rand_like randn_like
rand randn normal randint randint_like randperm uniform rrelu multinomial
"""
_RANDOM = frozenset(_FUNCTIONS.split())


def run(evidence: Evidence) -> Iterator[Finding]:
    findings = list(_trained_in_evaluation(evidence)) or list(_statistics_not_updated(evidence))
    findings = findings or list(_left_in_training(evidence)) or list(_random_in_evaluation(evidence))
    yield from findings or _statistics_of_one_batch(evidence)


def _trained_in_evaluation(evidence: Evidence) -> Iterator[Finding]:
    """Training steps in which dropout is off, or batch norm uses its initial statistics."""
    model = evidence.fresh.model
    rows = evidence.trial.rows
    modes = [row.training for row in rows if row.training is not None]
    drops = {name for name, part in model.named_modules() if isinstance(part, _DROPOUT) and part.p > 0}
    norms = {name for name, part in model.named_modules() if isinstance(part, _BATCH_NORM) and never_measured(part)}
    off = {name for name, mode in evidence.first.modes.items() if not mode}
    # Where a step calls only parts of the network, their modes count.
    parts = (drops | norms) & evidence.first.modes.keys()
    evaluating = modes.count(False) > len(modes) // 2 if modes else bool(parts) and parts <= off
    if evaluating and (drops or norms):
        step = modes.index(False) + 1 if modes else 1
        # The doctor's own step sets no mode, so the mode is that in which the user passed the network.
        if evidence.setup.own_step and not norms:
            yield _not_in_training(sorted(drops), step, "note")
        else:
            yield _not_in_training(sorted(norms | drops), step, "error" if norms else "warning")
    elif (drops or norms) and (step := left_in_evaluation(modes, steps_an_epoch(evidence))):
        yield _not_in_training(sorted(norms | drops), step, "warning")
    elif not evaluating and norms & off:
        yield _norm_in_evaluation(sorted(norms & off))
    elif not evaluating and modes and drops & off and evidence.setup.own_step is False:
        yield _dropout_off(sorted(drops & off))


def left_in_evaluation(modes: list[bool], batches: int) -> int:
    """The number, from 1, of the step from which on the network stays in evaluation mode; 0 where it does not.

    `modes`: for each step, whether the network is in training mode; `batches`: of an epoch, at whose end a loop may
    return to training mode, so that a change there does not count.
    """
    first = modes.count(True)
    left = modes == [True] * first + [False] * (len(modes) - first)
    return first + 1 if left and len(modes) - first >= _STAYS and 0 < first < batches - 1 else 0


def never_measured(part: nn.Module) -> bool:
    """Whether a batch norm keeps running statistics and still has the initial ones."""
    mean, variance = getattr(part, "running_mean", None), getattr(part, "running_var", None)
    if not isinstance(mean, torch.Tensor) or not isinstance(variance, torch.Tensor):
        return False
    return bool((mean == 0).all()) and bool((variance == 1).all())


def _not_in_training(names: list[str], step: int, severity: str) -> Finding:
    when = "from the first step on" if step == 1 else f"from step {step} on"
    return Finding(
        code=CODE,
        severity="error" if severity == "error" else "warning" if severity == "warning" else "note",
        where=listed_names(names),
        measured=f"{when} the network is trained in evaluation mode: {listed_names(names)} do not work as in training",
        threshold="training mode in training steps, if there is dropout or batch norm",
        why="In evaluation mode dropout drops nothing, and batch norm uses running statistics, which are then never "
        "updated.",
        remedy="`model.train()` before the training steps of each epoch, and after every `model.eval()`.",
    )


def _norm_in_evaluation(names: list[str]) -> Finding:
    return Finding(
        code=CODE,
        severity="error",
        where=listed_names(names),
        measured=f"in training {listed_names(names)} are in evaluation mode with their initial mean 0 and variance 1: "
        "they normalize nothing",
        threshold="batch norm in evaluation mode only after it has measured its statistics",
        why="Freezing batch norm is meant for pretrained networks.",
        remedy=f"`model.get_submodule({names[0]!r}).train()`, or load trained weights first.",
    )


def _dropout_off(names: list[str]) -> Finding:
    return Finding(
        code=CODE,
        severity="warning",
        where=listed_names(names),
        measured=f"{listed_names(names)} are in evaluation mode while the network is in training mode: nothing "
        "is dropped",
        threshold="dropout in the mode of the network",
        why="A part that was put into evaluation mode stays there until it is put back.",
        remedy="`model.train()` before the training steps, which sets all parts.",
    )


def _statistics_not_updated(evidence: Evidence) -> Iterator[Finding]:
    """Batch norms that run in training mode, but still have nearly their initial statistics after the trial."""
    trial = evidence.trial
    if len(trial.rows) < 2 or trial.error is not None:
        return
    initial = {name for name, part in evidence.fresh.model.named_modules() if never_measured(part)}
    running = [(name, part) for name, part in _running(evidence) if name in initial]  # others may be loaded, and right
    planned = passes_planned(evidence)
    stuck = [(name, part) for name, part in running if never_measured(part) or _hardly_moves(part, planned)]
    severity: Severity = "error"
    if not stuck and not planned:
        severity, assumed = "warning", _EPOCHS * steps_an_epoch(evidence)
        stuck = [(name, part) for name, part in running if _hardly_moves(part, assumed)]
        stuck = stuck if stuck and _is_worse_in_evaluation(evidence) else []
    if not stuck:
        return
    names = [name for name, _ in stuck]
    momentum = stuck[0][1].momentum
    yield Finding(
        code=CODE,
        severity=severity,
        where=listed_names(names),
        measured=f"after {several(len(trial.rows), 'step')} in training mode the running mean and variance of "
        f"{listed_names(names)} are hardly changed (momentum {momentum:g}"
        f"{_at_the_end(momentum, planned, len(trial.rows))}){_gap(evidence)}"
        if momentum is not None
        else (
            f"after {several(len(trial.rows), 'step')} in training mode {listed_names(names)} still have their initial "
            "statistics"
        ),
        threshold="running statistics that follow those of the batches: in all epochs, or where these are unknown, in "
        f"{_EPOCHS} epochs, if the loss in evaluation mode is {_TWICE:g} times that in training mode after the trial",
        why="In evaluation mode batch norm uses its running statistics. In torch, momentum is the weight of the new "
        "batch, usually 0.1.",
        remedy=f"`nn.BatchNorm2d(…, momentum=0.1)` for {listed_names(names)}.",
    )


def _running(evidence: Evidence) -> list[tuple[str, Any]]:
    """The batch norms of the trial's network that keep running statistics and run in training mode, by name."""
    return [
        (name, part)
        for name, part in evidence.trial.replica.model.named_modules()
        if isinstance(part, _BATCH_NORM) and evidence.first.modes.get(name) and part.track_running_stats
    ]


def _statistics_of_one_batch(evidence: Evidence) -> Iterator[Finding]:
    """Batch norms whose running statistics are those of the newest batch, where statistics of several batches lead to
    better predictions."""
    replica, batches = evidence.trial.replica, evidence.train.raw[:_POOLED]
    newest = {name: part for name, part in _running(evidence) if (part.momentum or 0.0) >= _NEWEST}
    if not newest or evidence.trial.error is not None or len(batches) < _POOLED:
        return
    momenta, losses = {name: part.momentum for name, part in newest.items()}, list[float]()
    try:
        with preserved(replica.model, evaluating=False), same_random_state(), torch.no_grad():
            for measured in (*([batch] for batch in batches[:_SINGLE]), batches):
                for part in newest.values():
                    part.reset_running_stats()
                    part.momentum = None  # an even mean over batches
                for batch in measured:
                    output_of(evidence.setup, replica, copied(batch), training=True)
                predictions = predict(evidence.setup, replica, batches)
                known = predictions.quality
                losses.append(math.nan if known is None else known.loss)
    finally:
        for name, part in newest.items():
            part.momentum = momenta[name]
    single, pooled = sum(losses[:-1]) / _SINGLE, losses[-1]
    if not single > _WORSE * pooled:
        return
    yield Finding(
        code=CODE,
        severity="warning",
        where=listed_names(list(newest)),
        measured=f"with momentum {max(momenta.values()):g} the running statistics of {listed_names(list(newest))} are "
        f"those of the last batch: with them the loss of {several(_POOLED, 'batch', 'batches')} in evaluation mode is "
        f"{single:.3g} (the mean over {_SINGLE} such batches), with those of all batches {pooled:.3g}",
        threshold=f"a momentum of {_NEWEST:g} or more, and a loss that is {_WORSE:g} times as high",
        why="In torch, momentum is the weight of the new batch, usually 0.1; in Keras and TensorFlow it is the weight "
        "of the old statistics, usually 0.99. Predictions in evaluation mode depend on which batch came last.",
        remedy=f"`nn.BatchNorm2d(…, momentum={max(1 - max(momenta.values()), 0.01):.2g})` for "
        f"{listed_names(list(newest))}; the default is 0.1.",
    )


def _hardly_moves(part: nn.Module, planned: float) -> bool:
    """Whether running statistics stay near their initial values: always, or until the end of training if that is
    known."""
    momentum = getattr(part, "momentum", None)
    return momentum is not None and (abs(momentum) < 1e-4 or 0 < planned * momentum < _ARRIVED)


def _is_worse_in_evaluation(evidence: Evidence) -> bool:
    """Whether predictions by running statistics are much worse than by those of each batch, in the loss and the
    accuracy."""
    by_running, by_batch = (predictions.quality for predictions in (evidence.after, evidence.after_training))
    if by_running is None or by_batch is None or by_running.loss < _TWICE * by_batch.loss:
        return False
    both = by_running.accuracy, by_batch.accuracy
    return both[0] is None or both[1] is None or both[0] < both[1] - _FEWER_RIGHT


def _at_the_end(momentum: float, planned: float, steps: int) -> str:
    if not 0 < momentum < 1:
        return ""
    left, when = (1 - momentum) ** (planned or steps), f"after all {planned:,.0f} batches " if planned else ""
    return f"; {when}{percent(left, 0)} of the initial values are left"


def _gap(evidence: Evidence) -> str:
    try:
        return f"; the loss of the same batches is {evidence.after.loss:.3g} in evaluation mode and " + (
            f"{evidence.after_training.loss:.3g} in training mode"
        )
    except NoEvidence:
        return ""


def _left_in_training(evidence: Evidence) -> Iterator[Finding]:
    """Parts that stay in training mode when the network is put into evaluation mode, since they override `train` or
    `eval`, or set a mode in forward."""
    calls = [call for call in evidence.prediction_graph.modules if call.training and not call.name.startswith("*")]
    norms = [c.name for c in calls if isinstance(c.module, _BATCH_NORM) and c.module.track_running_stats]
    drops = [c.name for c in calls if isinstance(c.module, _DROPOUT) and c.module.p > 0]
    if not norms and not drops:
        return
    names = list(dict.fromkeys((*norms, *drops)))
    yield Finding(
        code=CODE,
        severity="error" if norms else "warning",
        where=listed_names(names),
        measured=f"after `model.eval()`, {listed_names(names)} still run in training mode",
        threshold="evaluation mode in all parts after `model.eval()`",
        why="Dropout that stays on makes predictions worse, and batch norm that stays on makes them depend on the "
        "batch.",
        remedy="Let `train(mode)` pass its argument to all parts, `return super().train(mode)`, and do not set modes "
        "in forward.",
    )


def _random_in_evaluation(evidence: Evidence) -> Iterator[Finding]:
    """Predictions that change from call to call in evaluation mode."""
    if not evidence.setup.compares:
        return  # generators may draw samples in evaluation, too
    batch, trained = evidence.train.raw[0], evidence.trial.replica  # an untrained head of zeros would hide randomness
    one, other = (eval_outputs(evidence, batch, seed=seed, replica=trained) for seed in (0, 1))
    if one.shape != other.shape:
        return
    difference = largest_difference(one, other)
    if difference < DIFFERENT:
        return
    calls = [call for call in evidence.prediction_graph.calls if call.name in _RANDOM and _is_within(call)]
    calls = [call for call in calls if not _scaled_by_the_network(evidence.prediction_graph, call)]
    calls = [call for call in calls if call.option(2, "training", call.options.get("train", True)) is not False]
    if not calls:
        return
    call, (inputs, targets) = calls[0], parts(batch)
    drops = "dropout" in call.name
    if not drops and (inputs is targets or _shown_targets(evidence, targets) or not evidence.targets_matter):
        return  # a network may mask its inputs to reconstruct them, or be shown targets (teacher forcing)
    inside = evidence.fresh.model.get_submodule(call.module) if not call.module.startswith("*") else None
    if isinstance(inside, _DROPOUT):
        fix = f"Let `model.eval()` reach {call.place}: remove the `train()` that keeps it on."
    elif drops:
        fix = f"`functional.{call.name}(x, p, training=self.training)` in {call.place}; or use an nn.Dropout module."
    else:
        fix = f"`if self.training:` around {call.name} in {call.place}."
    yield Finding(
        code=CODE,
        severity="error" if drops else "warning",
        where=call_text(call),
        measured=f"in evaluation mode, two predictions for the same batch differ by {difference:.2g} of their standard "
        "deviation",
        threshold=f"{DIFFERENT:g} standard deviations",
        why="Something random still runs in evaluation mode: predictions are worse than they could be, and differ each "
        "time.",
        remedy=fix,
    )


def _shown_targets(evidence: Evidence, targets: Any) -> bool:
    """Whether the network gets its targets as an input in training (teacher forcing)."""
    y = main_tensor(targets)
    inputs = [tensor for _, tensor in leaves(list(evidence.first.arguments))]
    return y is not None and any(x.shape == y.shape and bool((x == y).all()) for x in inputs)


def _is_within(call: Call) -> bool:
    """Whether the network makes the call, rather than another one, whose mode evaluation does not set."""
    return any(not name.startswith(OUTSIDE_TENSOR) for name in call.inside)


def _scaled_by_the_network(graph: CallGraph, noise: Call) -> bool:
    """Whether the network predicts the scale of the noise, as a variational autoencoder does:
    `mean + deviation * torch.randn_like(deviation)`."""
    if noise.name == "bernoulli":  # it has no scale
        return False
    if noise.name == "normal" and any(i >= 0 and graph.calls[i].from_batch for i in noise.inputs):
        return True
    weights = {call.index for call in graph.weights}
    users = [graph.calls[index] for index in graph.consumers[noise.index]]
    return any(
        user.name in ("mul", "__mul__", "__rmul__", "addcmul")
        and any(i >= 0 and i != noise.index and graph.ancestors(i) & weights for i in user.inputs)
        for user in users
    )


MODE = Check(
    codes=(CODE,),
    run=run,
    explains="loss.initial-off model.batch-mixing optim.lr-too-high fit.*",
)
