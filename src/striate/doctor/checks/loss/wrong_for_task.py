"""loss.wrong-for-task: does the loss compute something else than what the task and its targets call for?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.wiring import raised_by_loss
from striate.doctor.checks.reward.batches import learns_from_rewards
from striate.doctor.evidence.answering import predicts_targets
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import form_of, log_probabilities, quality
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import main_tensor, parts
from striate.records import Finding
from striate.wording import several, show_shape

_BETTER = 0.1
_SMOOTHED, _AVOIDED = 0.8, 0.2
_RENUMBERED, _MOST_CLASSES = 0.8, 200
_BATCH, _SHARE, _STEPS = 8, 16, 4
"""A loss of a sixteenth of a batch of eight or more leaves samples out, where it does so in several steps."""
_ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


class _Wrong(NamedTuple):
    severity: Any
    measured: str
    why: str
    remedy: str


def _run(evidence: Evidence) -> Iterator[Finding]:
    raised = raised_by_loss(evidence)
    wrong = None if raised is None else _Wrong("error", *raised)
    if wrong is None:
        found = (rule(evidence, call) for call in _calls(evidence) for rule in _RULES)
        wrong = next((one for one in found if one is not None), None)
        if wrong is None or wrong.severity == "note":
            wrong = _few_counted(evidence) or _renumbered(evidence) or wrong
    if wrong is not None:
        yield Finding(
            code="loss.wrong-for-task",
            severity=wrong.severity,
            where="the loss",
            measured=wrong.measured,
            threshold=WRONG_FOR_TASK.threshold,
            why=wrong.why,
            remedy=wrong.remedy,
        )


def _calls(evidence: Evidence) -> list[LossCall]:
    """The calls of torch's losses in one step; where there are none, what the user's own loss was given."""
    if evidence.calls.losses:
        return evidence.calls.losses
    first = evidence.first
    if not isinstance(first.loss_outputs, torch.Tensor) or not isinstance(first.loss_targets, torch.Tensor):
        return []
    value = torch.tensor(float("nan") if first.loss is None else first.loss)
    return [LossCall("", first.loss_outputs.cpu(), first.loss_targets.cpu(), value)]


def _few_counted(evidence: Evidence) -> _Wrong | None:
    """A loss of one sample of each batch, or of a few."""
    try:
        counted = evidence.counted
    except NoEvidence:
        return None
    positions = _few_positions(counted.entries or ())
    steps = [counts for counts in counted.samples if len(counts) >= _BATCH]
    size, most = min(map(len, steps), default=0), max((int(counts.sum()) for counts in steps), default=0)
    if positions is None and (len(steps) < _STEPS or most > max(1, size / _SHARE) or learns_from_rewards(evidence)):
        return None
    if positions is not None:
        return positions
    always = all(torch.equal(counts[:size], steps[0][:size]) for counts in steps)
    which = f"; always the same, number {int(steps[0].nonzero()[0])}" if always and most == 1 else ""
    return _Wrong(
        "error",
        f"a gradient comes back to the outputs of {several(most, 'sample')} at most of each batch of {size}, in "
        f"{several(len(steps), 'step')}{which}",
        "What the others show is never learned, and each step follows the noise of a few samples.",
        "give the loss all outputs and targets, without an index, and take its mean: `criterion(outputs, targets)`, "
        "`losses.mean()`",
    )


def _few_positions(entries: Sequence[torch.Tensor]) -> _Wrong | None:
    """A loss of one and the same position of sequences, of whose positions all have targets."""
    if not entries or any(known.ndim != 2 or known.shape[1] < _BATCH for known in entries):
        return None
    first, last = ({int(known[:, end].any()) for known in entries} for end in (0, -1))
    most = max(int(known.any(0).sum()) for known in entries)
    if most > 1 or (first != {1} and last != {1}):
        return None
    return _Wrong(
        "error",
        f"a gradient comes back to the outputs of the {'first' if first == {1} else 'last'} position only, in "
        f"{several(len(entries), 'step')}; there are targets for {entries[0].shape[1]}",
        "What the other positions are to predict is never learned.",
        "give the loss all positions: `criterion(outputs.permute(0, 2, 1), targets)` of outputs (N, T, C)",
    )


def _renumbered(evidence: Evidence) -> _Wrong | None:
    """Classes that the loss asks for at the outputs of other classes: what was learned is right once renumbered."""
    if not evidence.setup.classifies or not predicts_targets(evidence):
        return None
    after = evidence.after_training
    targets, outputs = after.targets, after.outputs
    if targets is None or targets.ndim != 1 or targets.is_floating_point() or outputs.ndim != 2:
        return None
    classes = outputs.shape[1]
    if not 3 <= classes <= _MOST_CLASSES or not set(targets.unique().tolist()) <= set(range(classes)):
        return None
    from scipy.optimize import linear_sum_assignment

    counts = torch.zeros(classes, classes)
    counts.index_put_((targets.long(), outputs.argmax(1)), torch.tensor(1.0), accumulate=True)
    right, place = (part.tolist() for part in map(torch.from_numpy, linear_sum_assignment(-counts.numpy())))
    best, own = float(counts[right, place].sum() / len(targets)), float(counts.diag().sum() / len(targets))
    if (
        best < _RENUMBERED
        and own < _AVOIDED / classes
        and len(targets) >= 30 * classes
        and counts.sum(0).max() < 0.5 * len(targets)
    ):
        return _Wrong(
            "error",
            f"{own:.1%} of the predictions on training samples are right after "
            f"{several(len(evidence.trial.rows), 'step')}, fewer than by chance ({1 / classes:.1%})",
            "The loss asks for anything but the right class.",
            "`nn.CrossEntropyLoss(label_smoothing=0.1)(outputs, labels)`: the right class has the largest target",
        )
    if best < _RENUMBERED or own > best / 3:
        return None
    pairs = ", ".join(f"{there} for class {one}" for one, there in zip(right, place, strict=True) if one != there)
    return _Wrong(
        "error",
        f"{own:.0%} of the predictions on training samples are right after {several(len(evidence.trial.rows), 'step')}"
        f", and {best:.0%} once the outputs are numbered anew: {pairs[:80]}",
        "The loss asks for each class at the output of another one, and whoever takes the largest output is wrong.",
        "give the loss the class numbers as the loader has them: `nn.CrossEntropyLoss()(outputs, labels)`, or "
        "`F.one_hot(labels, outputs.shape[1])`",
    )


def _class_numbers(evidence: Evidence, call: LossCall) -> _Wrong | None:
    """Squared error on class numbers: one quantity a sample for three classes or more."""
    if not evidence.setup.classifies or call.name not in (*_ELEMENTWISE, ""):
        return None
    try:
        labels = evidence.train.labels
    except NoEvidence:
        return None
    kinds, samples = int(labels.unique().numel()), len(call.target)
    whole = bool((call.target == call.target.round()).all()) and int(call.target.unique().numel()) > 2
    single = call.input.numel() == call.target.numel() == samples
    compared = call.name != "" and whole and call.target.numel() == samples
    if kinds < 3 or not (single or compared):
        return None
    return _Wrong(
        "error",
        f"{call.name or 'the loss'} compares outputs {show_shape(call.input.shape)} with the numbers of {kinds} "
        f"classes {show_shape(call.target.shape)}",
        "Classes have no order: that class 3 is nearer to class 4 than to class 9 is not so, and is what is learned.",
        f"give the last layer {kinds} outputs and use `nn.CrossEntropyLoss()` with the class numbers as they are",
    )


def _likelihood_of_scores(_: Evidence, call: LossCall) -> _Wrong | None:
    """The negative log likelihood of what are no log probabilities."""
    scores, target = call.input, call.target
    if scores.ndim != target.ndim + 1 or scores.ndim < 2 or target.is_floating_point() or scores.shape[1] < 2:
        return None
    form = form_of(scores)
    if form == "log probabilities" or (call.name != "nll_loss" and not _is_likelihood(call)):
        return None
    total = float(scores.double().exp().sum(1).mean()) if form == "logits" else 1.0
    what = "probabilities" if form == "probabilities" else f"scores whose exponentials sum to {total:.3g} instead of 1"
    remedy = "use `nn.CrossEntropyLoss()` on the scores"
    if form == "probabilities":
        remedy = "use `nn.CrossEntropyLoss()` on the scores, without the softmax; or give it `torch.log_softmax(x, 1)`"
    why = "It can be made as small as one likes by larger scores alone: the wrong ones are never pushed down."
    if form == "probabilities":
        why = "Without the logarithm a sure mistake costs hardly more than a doubtful one, and its gradient vanishes."
    return _Wrong("error", f"the negative log likelihood is taken of {what}", why, remedy)


def _is_likelihood(call: LossCall) -> bool:
    """Whether a loss of the user's own is the mean of the right class's output, with a minus."""
    target = call.target.long().unsqueeze(1)
    if call.name or int(target.min()) < 0 or int(target.max()) >= call.input.shape[1] or call.value.numel() != 1:
        return False
    mean = float(-call.input.double().gather(1, target).mean())
    return abs(mean - float(call.value)) <= 1e-4 * max(abs(mean), 1e-6)


def _one_output(evidence: Evidence, call: LossCall) -> _Wrong | None:
    """Cross entropy among one output, or among the samples of a batch."""
    if call.name != "cross_entropy":
        return None
    alone = call.input.ndim > 1 and call.input.shape[1] == 1
    if not alone and not (call.input.ndim == 1 and len(call.input) > 1 and call.target.is_floating_point()):
        return None
    losses = evidence.trial.losses
    what = "one output, which is always certain" if alone else "the samples of the batch, as if they were classes"
    remedy = "use `nn.MSELoss()` for quantities, or `nn.BCEWithLogitsLoss()` with `targets.float()` for yes and no"
    text = f"cross entropy chooses among {what}: outputs {show_shape(call.input.shape)}"
    constant = f", and the loss is {losses[0]:.3g} at first and {losses[-1]:.3g} after {several(len(losses), 'step')}"
    return _Wrong("error", text + (constant if losses else ""), "Nothing can be learned from it.", remedy)


def _smoothed_away(_: Evidence, call: LossCall) -> _Wrong | None:
    """Labels that are smoothed until next to nothing is left of them."""
    if call.smoothing < _SMOOTHED or call.input.ndim < 2:
        return None
    other = call.smoothing / call.input.shape[1]
    return _Wrong(
        "error",
        f"label_smoothing={call.smoothing:g} asks for {1 - call.smoothing + other:.3g} of the right class and for "
        f"{other:.3g} of each other one",
        "What is to be learned differs little from predicting all classes alike.",
        "`nn.CrossEntropyLoss(label_smoothing=0.1)`: the share that is taken from the right class, not that left to it",
    )


def _classes_for_numbers(evidence: Evidence, call: LossCall) -> _Wrong | None:
    """Cross entropy where quantities are asked for, or where several classes may be right."""
    if call.name != "cross_entropy" or call.input.ndim < 2:
        return None
    if (
        evidence.setup.measures
        and _are_given(evidence, call)
        and not any(other.name in _ELEMENTWISE for other in evidence.calls.losses)
    ):
        return _Wrong(
            "error",
            f"cross entropy between outputs {show_shape(call.input.shape)} and targets of a regression",
            "Cross entropy tells classes apart; how far a prediction is from a quantity means nothing to it.",
            "use `nn.MSELoss()`, with as many outputs as there are quantities",
        )
    if not call.target.is_floating_point() or call.target.shape != call.input.shape:
        return None
    sums = call.target.double().sum(1)
    off = float(((sums - 1).abs() > 0.02).double().mean())
    if off < 0.02:
        return None
    return _Wrong(
        "error",
        f"cross entropy is given targets whose classes sum to {float(sums.min()):.3g} to {float(sums.max()):.3g} in "
        f"{off:.0%} of the samples, not to 1",
        "Its softmax makes classes compete, and here several may be right, or none.",
        "use `nn.BCEWithLogitsLoss()`: each class by itself",
    )


def _are_given(evidence: Evidence, call: LossCall) -> bool:
    """Whether a loss is given the loader's targets, be it cut to whole numbers, and not which samples are pairs."""
    wanted = main_tensor(parts(evidence.train.raw[0])[1])
    if wanted is None or wanted.numel() != call.target.numel():
        return False
    values = wanted.detach().cpu().double().flatten()
    given = call.target.cpu().double().flatten()
    return torch.equal(values, given) or torch.equal(values.trunc(), given) or torch.equal(values.round(), given)


def _outside_unit(_: Evidence, call: LossCall) -> _Wrong | None:
    """Binary cross entropy with targets that are no probabilities."""
    if call.name not in _BINARY or not call.target.numel():
        return None
    low, high = float(call.target.min()), float(call.target.max())
    if low >= 0 and high <= 1:
        return None
    return _Wrong(
        "error",
        f"binary cross entropy is given targets from {low:.3g} to {high:.3g}",
        "Its targets are probabilities, 0 to 1; beyond them it has no minimum.",
        "use `nn.CrossEntropyLoss()` with an output for each class, or `nn.MSELoss()` for quantities",
    )


def _exclusive(evidence: Evidence, call: LossCall) -> _Wrong | None:
    """Binary cross entropy where just one class is right."""
    target = call.target
    if call.name not in _BINARY or target.ndim != 2 or target.shape[1] < 3 or target.shape != call.input.shape:
        return None
    if not bool(((target == 0) | (target == 1)).all()) or not bool((target.sum(1) == 1).all()) or len(target) < 8:
        return None
    text = (
        f"binary cross entropy asks for each of {several(target.shape[1], 'class', 'classes')} by itself, of "
        "which just one is right"
    )
    why = "Nine of ten predictions are `no` whatever the input, which a small loss can hide; classes that exclude one "
    why += "another are told apart by what they have more than the others."
    remedy = "use `nn.CrossEntropyLoss()` on the scores, without sigmoid or softmax, with class numbers as targets"
    if form_of(call.input) == "probabilities":
        return _Wrong("warning", f"{text}; outputs are probabilities that sum to 1", why, remedy)
    tried = _with_cross_entropy(evidence)
    if tried is None or tried[1] < tried[0] + _BETTER:
        return _Wrong("note", text, why, remedy)
    figures = f"; after the same steps {tried[0]:.0%} of the predictions are right, with cross entropy {tried[1]:.0%}"
    return _Wrong("warning", text + figures, why, remedy)


def _with_cross_entropy(evidence: Evidence) -> tuple[float, float] | None:
    """The accuracies after the trial as it is and with cross entropy; None where that cannot be tried."""

    def instead(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        inside = bool(((outputs >= 0) & (outputs <= 1)).all())
        scores = torch.logit(outputs, eps=1e-6) if inside else outputs
        return functional.cross_entropy(scores, targets.argmax(1) if targets.ndim == 2 else targets)

    if evidence.first.loss_outputs is None:
        return None
    other = evidence.variant("cross entropy", Change(loss=instead))
    mine = evidence.after_training
    theirs = evidence.in_training(other.replica)
    own, changed = (_accuracy(predictions.outputs, predictions.targets) for predictions in (mine, theirs))
    return None if own is None or changed is None or other.error is not None else (own, changed)


def _accuracy(outputs: torch.Tensor, targets: torch.Tensor | None) -> float | None:
    if targets is not None and targets.ndim == 2 and targets.shape[1] > 1:
        targets = targets.argmax(1)
    known = quality(outputs, targets)
    return None if known is None else known.accuracy


def _exchanged(_: Evidence, call: LossCall) -> _Wrong | None:
    """A loss whose two arguments stand in each other's place, where they are not alike."""
    if not call.exchanged or call.name not in (*_BINARY, "cross_entropy", "kl_div"):
        return None
    if call.name == "kl_div" and _log_probabilities_of(call) and _are_probabilities(call):
        return None  # the divergence the other way round, which is a loss as well
    return _Wrong(
        "error",
        f"{call.name} is given the network's outputs {show_shape(call.target.shape)} as the target, and as the input "
        f"{show_shape(call.input.shape)} what needs no gradient",
        "The loss takes predictions first and targets second, and means something else the other way round.",
        f"exchange its arguments: `F.{call.name}(outputs, targets)`"
        + (", `F.kl_div(outputs.log_softmax(1), targets.softmax(1))` of scores" if call.name == "kl_div" else ""),
    )


def _log_probabilities_of(call: LossCall) -> bool:
    return form_of(call.input) == "log probabilities" or _sums_to_one(call.input.double().exp())


def _are_probabilities(call: LossCall) -> bool:
    """Whether the target of a divergence is what it is taken for."""
    return _sums_to_one(call.target.double().exp() if call.log_target else call.target.double())


def _sums_to_one(values: torch.Tensor) -> bool:
    """Along the second axis, the last one, or all positions of a map; in most places, since padding may be zero."""
    sums = [values.sum(1), values.sum(-1), values.flatten(1).sum(1), values.flatten(min(2, values.ndim - 1)).sum(-1)]
    return bool((values >= 0).all()) and any(float(((s - 1).abs() < 1e-2).double().mean()) > 0.5 for s in sums)


def _divergence_from_scores(_: Evidence, call: LossCall) -> _Wrong | None:
    """The Kullback-Leibler divergence of a target that is no distribution."""
    if call.name != "kl_div" or call.target.ndim < 2 or _are_probabilities(call):
        return None
    low, high = float(call.target.min()), float(call.target.max())
    logarithms = not call.log_target and _sums_to_one(call.target.double().exp())
    return _Wrong(
        "error",
        f"kl_div is given {'logarithms of probabilities' if logarithms else 'targets'} from {low:.3g} to {high:.3g} "
        "as its target, where probabilities that sum to 1 are meant",
        "It multiplies the difference of the logarithms with its second argument: what is below zero turns it round.",
        "`F.kl_div(log_p, log_q, log_target=True)`" if logarithms else "give it `torch.softmax(targets, 1)`",
    )


def _divergence_of_scores(_: Evidence, call: LossCall) -> _Wrong | None:
    """The Kullback-Leibler divergence of what are no log probabilities."""
    if call.name != "kl_div" or call.input.ndim < 2 or _log_probabilities_of(call):
        return None
    off = float((call.input.double() - log_probabilities(call.input)).abs().mean())
    return _Wrong(
        "error",
        f"kl_div is given outputs that are {off:.3g} on average from log probabilities",
        "It takes its first argument for logarithms of probabilities, and has no minimum where they are not.",
        "give it `torch.log_softmax(outputs, 1)`",
    )


_RULES: tuple[Callable[[Evidence, LossCall], _Wrong | None], ...] = (
    _exchanged,
    _one_output,
    _smoothed_away,
    _class_numbers,
    _classes_for_numbers,
    _likelihood_of_scores,
    _outside_unit,
    _exclusive,
    _divergence_of_scores,
    _divergence_from_scores,
)

WRONG_FOR_TASK = Check(
    codes=("loss.wrong-for-task",),
    question="Does the loss compute something else than what the task and its targets call for?",
    threshold="what the loss is given, looked at in one step, is exact: numbers of three or more classes compared as "
    "quantities, "
    "a likelihood of what are no log probabilities, cross entropy among one output or for quantities, targets outside "
    "0 to 1, a sixteenth of the samples, outputs in the place of targets, "
    f"classes at the outputs of other ones ({_RENUMBERED:.0%} right once renumbered), a divergence from what is no "
    "distribution; binary cross entropy for "
    f"exclusive classes warns where cross entropy gets {_BETTER:.0%} more right",
    run=_run,
    explains=(
        "data.label-range loss.degenerate loss.initial-off loss.not-finite loss.sign model.collapsed "
        "model.dead-units model.exploding-gradient model.vanishing-gradient optim.lr-too-high "
        "optim.lr-too-low optim.no-step fit.*"
    ),
)
