"""`loss.sign` and `loss.broadcast`: a loss with the wrong sign, or of outputs and targets in different shapes."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.added_scores import score_added
from striate.doctor.checks.loss.distances_as_scores import DEVIATIONS, distances_asked
from striate.doctor.checks.loss.paired_quantities import wanted_least
from striate.doctor.checks.loss.right_answers import DEARER, SURE, right_cost_more
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.answering import predicts_targets
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import STEPS, Evidence
from striate.doctor.evidence.partial_likelihood import SAME, wrong_partial_likelihood
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.quality import Quality, quality
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.script_source import ScriptSource, called
from striate.observe.interventions import change_gradient, change_output
from striate.records import Finding
from striate.wording import several, show_shape

_WORSE = 1.02
_BETTER = 0.98


def _maximized(evidence: Evidence) -> Finding | None:
    """Losses of torch whose value the step's own gradient raises; None where networks train against each other."""
    losses = [call for call in evidence.calls.losses if call.slopes]
    went = evidence.trial.losses
    if evidence.trial.replica.maximizes or not went or evidence.trial.level() > went[0]:
        return None  # a step goes up the gradient, by the optimizer or by the step itself
    if evidence.setup.rivals or not losses or not all(sum(call.slopes) < 0 for call in losses):
        return None
    names = " and ".join(dict.fromkeys(f"`{call.name}`" for call in losses))
    return SIGN.finding(
        severity="error",
        where="the loss",
        measured=f"the derivative of what goes backward by {names} is {sum(losses[0].slopes):.3g}, below zero: a step "
        "down the gradient makes it larger",
        why="Each step makes the predictions worse; the printed loss falls all the same, without end.",
        remedy="turn the sign round: `(-loss).backward()`, or leave the minus before the loss out",
    )


def _find_sign(evidence: Evidence) -> Iterator[Finding]:
    found = _maximized(evidence)
    if found is not None:
        yield found
        return
    reads = (_unlikely, _worse, _of_distances, _dearer, _added, _wanted_least)
    yield from islice(chain.from_iterable(read(evidence) for read in reads), 1)


def _unlikely(evidence: Evidence) -> Iterator[Finding]:
    with suppress(NoEvidence):
        found = None if evidence.trial.replica.maximizes else wrong_partial_likelihood(evidence)
        if found is not None and found.kind == "maximized":
            yield SIGN.finding(
                severity="error",
                where="the loss",
                measured="its gradient by the outputs is that of Cox's partial likelihood of durations and events with "
                f"the sign turned round (cosine {-found.wrong:.3f})",
                why="The likelihood is made small: who leaves last gets the highest risk.",
                remedy="put the minus before it: `-((scores - at_risk) * events).sum() / events.sum()`",
            )


def _of_distances(evidence: Evidence) -> Iterator[Finding]:
    measured = None if evidence.setup.rivals else distances_asked(evidence)
    if measured is not None:
        yield SIGN.finding(
            severity="error",
            where="the loss",
            measured=measured,
            why="Distances are small where samples belong together; cross entropy makes the number of the right class "
            "large.",
            remedy="give it the distances with a minus: `F.cross_entropy(-distances, labels)`",
        )


def _wanted_least(evidence: Evidence) -> Iterator[Finding]:
    found = None if evidence.setup.rivals else wanted_least(evidence)
    if found is not None:
        pair, right, other = found
        yield SIGN.finding(
            severity="error",
            where="the loss",
            measured=f"with the targets in the place of the output `{pair.name}` the loss of the first batch is "
            f"{right:.3g}, with those of other samples at most {other:.3g}",
            why="That part of the loss rewards wrong answers: a score has to be taken from 1, or to have a minus.",
            remedy="turn the sign of the part that grows with right answers: `1 - iou` for `iou`",
        )


def _added(evidence: Evidence) -> Iterator[Finding]:
    """Where the other parts of a loss outweigh a score that is added, the code tells."""
    found = None if evidence.setup.source is None else score_added(evidence.source)
    if found is not None:
        line, text = found
        yield SIGN.finding(
            severity="error",
            where=f"line {line}",
            measured=f"`{text}` is a loss, and adds a score that grows with better predictions",
            why="That part of the loss rewards wrong answers.",
            remedy="take the score from 1: `1 - dice` for `dice`",
        )


def _dearer(evidence: Evidence) -> Iterator[Finding]:
    measured = right_cost_more(evidence)
    if measured is not None:
        yield SIGN.finding(
            severity="error",
            where="the loss",
            measured=measured,
            why="The loss, or a part of it, rewards wrong answers: what is called a score has to be taken from 1, or "
            "to have a minus.",
            remedy="turn the sign of the part that grows with right answers: `1 - dice` for `dice`, `-likelihood` for "
            "`likelihood`",
        )


def _worse(evidence: Evidence) -> Iterator[Finding]:
    trial = evidence.trial
    if len(trial.rows) < 5:
        return
    if not predicts_targets(evidence):
        yield from _pulls_apart(evidence)
        return
    start = _quality(evidence, None)
    after = _quality(evidence, trial)
    if start is None or after is None or after.loss <= _WORSE * start.loss:  # NaN is worse, too
        return
    if start.accuracy is not None and (after.accuracy or 0.0) > max(start.accuracy, after.common) + 0.02:
        return
    turned = evidence.variant("gradients turned round", Change(prepare=turn_round), steps=STEPS)
    better = _quality(evidence, turned)
    if turned.error is not None or better is None or not better.loss < _BETTER * start.loss:
        return
    maximizes = trial.replica.maximizes
    name = {"classes": "cross entropy", "labels": "binary cross entropy"}.get(after.kind, "squared error")
    measured = (
        f"in {several(len(trial.rows), 'step')} the {name} of the predictions on training samples went up from "
        f"{start.loss:.3g} to {after.loss:.3g}{_share(start, after)}; with all gradients turned round it went down to "
        f"{better.loss:.3g}{_share(start, better)}"
    )
    evidence.pictures["loss.sign"] = Picture(
        "lines", "The loss that the step gave", {"as it is": tuple(trial.losses), "turned round": tuple(turned.losses)}
    )
    remedy = (
        "make the optimizer without `maximize=True`"
        if maximizes
        else "turn the sign of the loss: `loss = -loss` before `loss.backward()`, or take the minus out of it"
    )
    yield SIGN.finding(
        severity="error",
        where="the optimizer" if maximizes else "the loss",
        measured=measured,
        why="Each step goes uphill: it makes the network worse at what it is asked.",
        remedy=remedy,
    )


def turn_round(replica: Replica) -> None:
    """Have every gradient of the replica come with the other sign."""
    for parameter in replica.model.parameters():
        if parameter.requires_grad and isinstance(parameter, nn.Parameter):
            change_gradient(parameter, lambda gradient: -gradient)


_TOGETHER, _APART = 0.1, -0.15
"""Correlations of the ranks of distances: of an untrained network it is 0.3 to 0.9."""


def _pulls_apart(evidence: Evidence) -> Iterator[Finding]:
    """Of embeddings: what looks alike ends far apart, and what does not together; turned round, it is as it was."""
    shown = evidence.first.shown
    if shown is None or not shown.is_floating_point() or len(shown) < 16 or len(evidence.trial.rows) < 40:
        return
    before = _likeness(evidence, evidence.fresh, shown)
    after = _likeness(evidence, evidence.trial.replica, shown)
    if before is None or after is None or before < _TOGETHER or after > _APART:
        return
    turned = evidence.variant("gradients turned round", Change(prepare=turn_round))
    other = _likeness(evidence, turned.replica, shown)
    if turned.error is not None or other is None or other < _TOGETHER:
        return
    yield SIGN.finding(
        severity="error",
        where="the loss",
        measured=f"distances between embeddings and between inputs have a rank correlation of {before:.2f} at first, "
        f"{after:.2f} after {several(len(evidence.trial.rows), 'step')}; with all gradients turned round {other:.2f}",
        why="What is alike is pushed apart, and what differs pulled together.",
        remedy="exchange what the loss takes for equal and for different: `criterion(anchor, positive, negative)`; "
        "`label * distance**2 + (1 - label) * (margin - distance).clamp(min=0)**2`, where 1 says equal",
    )


def _likeness(evidence: Evidence, replica: Replica, shown: torch.Tensor) -> float | None:
    with suppress(NoEvidence):
        outputs = predict(evidence.setup, replica, evidence.train.raw[:1]).outputs
        if outputs.ndim != 2 or outputs.shape[1] < 2 or len(outputs) != len(shown):
            return None
        near = [torch.pdist(t.detach().cpu().double().flatten(1)).argsort().argsort() for t in (outputs, shown)]
        return float(torch.corrcoef(torch.stack(near).double())[0, 1])
    return None


def _quality(evidence: Evidence, trial: Trial | None) -> Quality | None:
    if trial is None:
        predictions = evidence.start_training
    elif trial is evidence.trial:
        predictions = evidence.after_training
    else:
        predictions = evidence.in_training(trial.replica)
    return quality(predictions.outputs, predictions.targets)


def _share(start: Quality, after: Quality) -> str:
    if start.accuracy is None or after.accuracy is None:
        return ""
    return f" (right: {start.accuracy:.0%} to {after.accuracy:.0%})"


SIGN = Check(
    codes=("loss.sign",),
    question="Does training make the predictions worse, and better with its gradients turned round?",
    threshold=f"the predictions' own measure rises by {_WORSE - 1:.0%} or more over the trial and falls by "
    f"{1 - _BETTER:.0%} or more "
    "with gradients turned round: no rate and no network makes both happen, but a wrong sign; or a derivative below "
    f"zero by each of torch's losses in the step; or right answers of probability {SURE:g} cost {DEARER:g} times as "
    "much as the classes' shares for every sample alike; or a sum that is a loss, by its name, to which a function "
    "named for a score (dice, IoU, …) adds what it does not take from 1; or one of several outputs for which "
    "its targets cost more than those of other samples; or numbers above 0 that cross entropy is given, of which the "
    f"right class has the lowest more often, by {DEVIATIONS:g} deviations, before a trial that learns little; "
    f"or a gradient that is Cox's partial likelihood's turned round (cosine -{SAME:g})",
    run=_find_sign,
    explains=(
        "loss.degenerate loss.initial-off loss.not-finite model.collapsed model.dead-units "
        "model.exploding-gradient model.saturated optim.lr-too-high optim.lr-too-low fit.*"
    ),
)


def _find_broadcast(evidence: Evidence) -> Iterator[Finding]:
    yield from list(_of_whole_loss(evidence)) or _of_a_column(evidence)


def _of_a_column(evidence: Evidence) -> Iterator[Finding]:
    """A column less one number for each sample, or the other way round, where the step writes its loss itself."""
    first = main_tensor(evidence.train.raw[0])
    count = 0 if first is None else len(first)
    for outputs, targets in evidence.calls.differences:
        if count > 1 and sorted((outputs, targets)) == [(count,), (count, 1)]:
            yield _finding(outputs, targets, (count, count), " by their difference", _remedy(outputs, targets))
            return


def _of_whole_loss(evidence: Evidence) -> Iterator[Finding]:
    outputs, targets = _compared(evidence)
    if outputs is None or targets is None or outputs == targets or len(evidence.calls.losses) > 1:
        yield from _among_several(evidence)
        return
    broadcast = _broadcast(outputs, targets)
    if math.prod(outputs) != math.prod(targets):
        if evidence.calls.sizes_differ and broadcast is not None:
            yield _finding(outputs, targets, broadcast, "", _resize_remedy(targets))
        return
    error = evidence.trial.error
    if error is not None and not evidence.trial.rows:
        if evidence.trial.phase == "loss" and "size" in str(error):
            text = f"; the loss raises {type(error).__name__}: {' '.join(str(error).split())[:120]}"
            yield _finding(outputs, targets, None, text, _remedy(outputs, targets))
        return
    if broadcast is None or math.prod(broadcast) <= math.prod(outputs):
        return
    if broadcast not in evidence.calls.shapes and not evidence.calls.sizes_differ:
        return
    same_shape = _with_shape(evidence, targets)
    fixed = evidence.variant("outputs in the shape of the targets", same_shape)
    before = evidence.trial.losses[0]
    if fixed.error is not None or not fixed.rows or math.isclose(before, fixed.losses[0], rel_tol=1e-5):
        return  # the step brings them into one shape itself
    text = (
        f"; after {several(len(fixed.rows), 'step')} the loss is {fixed.level():.3g} with outputs in the shape of "
        f"the targets, {evidence.trial.level():.3g} without"
    )
    yield _finding(outputs, targets, broadcast, text, _remedy(outputs, targets))


def _among_several(evidence: Evidence) -> Iterator[Finding]:
    """One of several losses of a step, of which torch itself says that the shapes differ."""
    for call in evidence.calls.losses if evidence.calls.sizes_differ else ():
        outputs, targets = tuple(call.input.shape), tuple(call.target.shape)
        if call.name in ("cross_entropy", "nll_loss") or outputs == targets:
            continue
        if (found := _all_with_all(outputs, targets, f" by `{call.name}`")) is not None:
            yield found
            return


def _all_with_all(outputs: tuple[int, ...], targets: tuple[int, ...], by: str) -> Finding | None:
    """What is said of shapes of as many numbers that are compared as more; None of others."""
    broadcast = _broadcast(outputs, targets)
    if broadcast is None or not math.prod(broadcast) > math.prod(outputs) == math.prod(targets):
        return None
    return _finding(outputs, targets, broadcast, by, _remedy(outputs, targets))


def _compared(evidence: Evidence) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The shapes of what the loss compares: as it was given them, or as one of torch's losses was, or else as network
    and loader gave them."""
    first = evidence.trial.first
    outputs, targets = first.loss_outputs, first.loss_targets
    if outputs is None or targets is None:
        elementwise = [call for call in evidence.calls.losses if call.name not in ("cross_entropy", "nll_loss")]
        if elementwise:
            outputs, targets = elementwise[0].input, elementwise[0].target
        else:
            outputs, targets = first.outputs, main_tensor(parts(evidence.train.raw[0])[1])
    shapes = [tuple(t.shape) if isinstance(t, torch.Tensor) and t.ndim else None for t in (outputs, targets)]
    return shapes[0], shapes[1]


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(a, b))
    except RuntimeError:
        return None


def _with_shape(evidence: Evidence, targets: tuple[int, ...]) -> Change:
    """A change that brings outputs into the shape of the targets: before the loss where the step calls it, and else as
    the network gives them."""

    def shaped(outputs: Any) -> Any:
        if isinstance(outputs, torch.Tensor) and outputs.numel() % math.prod(targets[1:]) == 0:
            return outputs.reshape(-1, *targets[1:])
        return outputs

    if evidence.trial.first.loss_outputs is not None:

        def around(loss: Any) -> Any:
            return lambda outputs, *rest, **options: loss(shaped(outputs), *rest, **options)

        return Change(around=around)

    def prepare(replica: Replica) -> None:
        change_output(replica.model, lambda _, outputs: shaped(outputs))

    return Change(prepare=prepare)


def _remedy(outputs: tuple[int, ...], targets: tuple[int, ...]) -> str:
    if len(outputs) == len(targets) + 1 and outputs[1:2] == (1,):
        return "compare `outputs.squeeze(1)` with the targets"
    if len(targets) == len(outputs) + 1 and targets[1:2] == (1,):
        return "compare the outputs with `targets.squeeze(1)`"
    return "compare `outputs.view_as(targets)` with the targets"


def _resize_remedy(targets: tuple[int, ...]) -> str:
    if len(targets) == 2:
        return f"give the last layer {several(targets[1], 'output')}, as many as there are numbers in a target"
    return "give the last layer one output, and compare `outputs.squeeze(1)` with the targets"


def _finding(
    outputs: tuple[int, ...],
    targets: tuple[int, ...],
    broadcast: tuple[int, ...] | None,
    tried: str,
    remedy: str,
) -> Finding:
    compared = "" if broadcast is None else f" and are compared as {show_shape(broadcast)}"
    return BROADCAST.finding(
        severity="error",
        where="the loss",
        measured=f"outputs have shape {show_shape(outputs)}, targets {show_shape(targets)}{compared}{tried}",
        why="Each output is compared with the targets of all samples, so the best prediction is the same for each: "
        "their mean.",
        remedy=remedy,
    )


BROADCAST = Check(
    codes=("loss.broadcast",),
    question="Are outputs and targets of different shapes compared all with all?",
    threshold="as many outputs as targets, shapes that broadcast to more, and a loss that is another one once the "
    "outputs have the shape of the targets: exact, nothing is estimated",
    run=_find_broadcast,
    explains="loss.degenerate loss.wrong-for-task model.collapsed optim.lr-too-high optim.lr-too-low fit.*",
)


_MODULES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss)
_NUMBER_BY_NUMBER = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits")


def _among_variables(evidence: Evidence) -> Iterator[Finding]:
    """Losses of two variables of a script whose step is not made again, as one that plays an environment: by the shapes
    of their tensors at the first step."""
    source = evidence.source
    called_so = {called(node) for node in _losses_made(source)}
    for site in source.calls(*_NUMBER_BY_NUMBER, *called_so):
        compared = [value for part in site.node.args[:2] if isinstance(value := source.value(part), torch.Tensor)]
        if len(compared) == 2:
            outputs, targets = (tuple(tensor.shape) for tensor in compared)
            if (found := _all_with_all(outputs, targets, f" by `{site.text}`")) is not None:
                yield replace(found, where=site.where)
                return
    for file, tree in source.trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Sub) or not _is_measured(source, node):
                continue
            named = all(isinstance(side, ast.Name) for side in (node.left, node.right))  # not `x[:, None] - x`
            sides = [source.value(node.left), source.value(node.right)]
            if named and all(isinstance(side, torch.Tensor) and side.is_floating_point() for side in sides):
                shapes = [tuple(side.shape) for side in sides]
                for outputs, targets in (shapes, shapes[::-1]):
                    if (found := _all_with_all(outputs, targets, f" by `{ast.unparse(node)}`")) is not None:
                        yield replace(found, where=f"{Path(file).name}, line {node.lineno}")
                        return


def _losses_made(source: ScriptSource) -> Iterator[ast.Call]:
    """Calls of the script's loss modules that compare number by number."""
    for node in source.nodes():
        if isinstance(node, ast.Call) and isinstance(source.value(node.func), _MODULES):
            yield node


def _is_measured(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a difference is squared, or its size is taken."""
    outer = source.parent(node)
    if isinstance(outer, ast.BinOp):
        return isinstance(outer.op, ast.Pow) and outer.left is node
    return isinstance(outer, ast.Attribute) and outer.attr in ("pow", "square", "abs")


BROADCAST_OF_VARIABLES = Check(
    codes=BROADCAST.codes,
    question=BROADCAST.question,
    threshold=BROADCAST.threshold,
    run=_among_variables,
    of_source=True,
)


_RAISED: tuple[tuple[str, str, str], ...] = (
    (
        r"Expected floating point type for target with class probabilities",
        "Targets with an axis of classes are probabilities here, and these are whole numbers.",
        "give it class numbers, `targets.argmax(1)`; where several classes may be right, use `nn.BCEWithLogitsLoss()` "
        "with `targets.float()`",
    ),
    (
        r"only batches of spatial targets supported",
        "Cross entropy of maps wants class numbers (N, H, W), without an axis of channels.",
        "give it `targets.squeeze(1)`",
    ),
    (
        r"multi-target not supported|0D or 1D target tensor expected",
        "Cross entropy wants one class number a sample, of shape (N,).",
        "give it `targets.squeeze(1)`, or `targets.argmax(1)` where they are one-hot",
    ),
    (
        r"all elements of (input|target) should be between 0 and 1",
        "nn.BCELoss wants probabilities, and scores may be anything.",
        "use `nn.BCEWithLogitsLoss()` on the scores",
    ),
    (
        r"grad can be implicitly created only for scalar outputs",
        "Backward begins at one number, and this loss has one for each sample.",
        "take its mean: `loss.mean().backward()`, or leave `reduction` at 'mean'",
    ),
    (
        r"Found dtype Long but expected|can't be cast to the desired output type Long",
        "This loss compares quantities, and the targets are whole numbers.",
        "give it `targets.float()`; for classes, use `nn.CrossEntropyLoss()`",
    ),
    (
        r"expected scalar type Long|expected.*Long|not implemented for '(Int|Float|Double|Char|Short|Byte|Bool)'",
        "This loss wants class numbers of type int64.",
        "give it `targets.long()`",
    ),
    (
        r"[Tt]arget size .*input size|size of tensor a|[Ee]xpected target size|batch_size .* to match target",
        "The loss cannot compare outputs and targets of these shapes.",
        "for classes: `nn.CrossEntropyLoss()` with outputs (N, K) and targets (N,); for quantities: outputs and "
        "targets of one shape",
    ),
)


def raised_by_loss(evidence: Evidence) -> tuple[str, str, str] | None:
    """What was measured, why it matters, and the remedy, where the first step's loss raised; None where it did not, or
    what it raised is a matter of another check."""
    trial = evidence.trial
    if trial.error is None or trial.rows or trial.phase not in ("loss", "backward"):
        return None
    text = " ".join(str(trial.error).split())
    measured = f"the first step raises {type(trial.error).__name__}: {text[:160]}"
    if "out of bounds" in text:
        outputs = trial.first.loss_outputs if trial.first.loss_outputs is not None else trial.first.outputs
        if outputs is not None and outputs.ndim > 1 and outputs.shape[1] == 1:
            why = "Cross entropy chooses among outputs, one a class, and there is one only."
            return measured, why, "give the last layer an output for each class, or use `nn.BCEWithLogitsLoss()`"
        return None
    for pattern, why, remedy in _RAISED:
        if re.search(pattern, text):
            return measured, why, remedy
    return None
