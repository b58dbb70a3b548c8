"""Losses that get targets of another kind than they are made for: quantities, exclusive classes, yes or no."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.doctor.checks.loss.task.wrong import BINARY, Wrong
from striate.doctor.evidence.call_graph import REGRESSION
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import form_of, quality
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import is_binary, leaves, main_tensor, parts
from striate.wording import percent, several, show_shape

_BETTER = 0.1
_SMOOTHED = 0.8


def class_numbers(evidence: Evidence, call: LossCall) -> Wrong | None:
    """A squared error of class numbers, with one output per sample for three classes or more."""
    if not evidence.setup.classifies or call.name not in (*REGRESSION, ""):
        return None
    try:
        labels = evidence.train.labels
    except NoEvidence:
        return None
    if any(other.name in CLASS_LOSSES for other in evidence.calls.losses):
        return None  # a class loss learns the classes, and this loss the quantities of another head
    kinds, samples = int(labels.unique().numel()), len(call.target)
    if int(call.target.unique().numel()) > kinds:
        return None
    whole = bool((call.target == call.target.round()).all()) and int(call.target.unique().numel()) > 2
    single = call.input.numel() == call.target.numel() == samples
    compared = call.name != "" and whole and call.target.numel() == samples
    if kinds < 3 or not (single or compared) or not evidence.targets_matter:
        return None
    outputs = main_tensor(evidence.first.outputs)
    first = f"give the last layer {kinds} outputs"
    if outputs is not None and outputs.ndim > 1 and outputs.shape[1] >= kinds:
        first = f"pass all {outputs.shape[1]} outputs to the loss"
    return Wrong(
        "error",
        f"{call.name or 'the loss'} compares outputs of shape {tuple(call.input.shape)} with the numbers of "
        f"{kinds} classes",
        "Classes have no order, but the network learns one: that class 3 is closer to class 4 than to class 9.",
        f"{first} and use `nn.CrossEntropyLoss()` with the class numbers as they are",
        limit="numbers of three or more classes compared as quantities",
    )


_SEVERAL = 0.05
"""Least share of samples with several labels."""


def first_label_only(evidence: Evidence, call: LossCall) -> Wrong | None:
    """A class loss whose targets are the first of several labels of each sample."""
    target = call.target.detach().cpu()
    if call.name not in CLASS_LOSSES or target.ndim != 1 or target.is_floating_point():
        return None
    for _, labels in leaves(evidence.train.raw[0]):
        if labels.ndim != 2 or len(labels) != len(target) or labels.shape[1] < 3:
            continue
        ones = labels.detach().cpu() == 1
        known = bool((ones | (labels.detach().cpu() == 0)).all())
        share = float((ones.sum(1) > 1).double().mean())
        if known and share > _SEVERAL and torch.equal(ones.long().argmax(1), target.long()):
            return Wrong(
                "error",
                f"{percent(share, 0)} of the samples have several labels, and the targets of {call.name} are only the "
                "first label of each, by `argmax`",
                "Classes exclude each other for this loss: the network learns to deny all labels but the first.",
                "use `nn.BCEWithLogitsLoss()(outputs, labels.float())`, one yes or no for each label",
                limit=f"several labels in more than {percent(_SEVERAL, 0)} of the samples, of which a class loss gets "
                "the first",
            )
    return None


_OF_BFLOAT16 = 0.03
"""By how much sums of probabilities differ from 1 if their logarithms have the 8 bits of bfloat16."""


def likelihood_of_scores(_: Evidence, call: LossCall) -> Wrong | None:
    """A negative log likelihood whose input is not log probabilities."""
    scores, target = call.input, call.target
    if scores.ndim != target.ndim + 1 or scores.ndim < 2 or target.is_floating_point() or scores.shape[1] < 2:
        return None
    form = form_of(scores)
    if form == "log probabilities" or (call.name != "nll_loss" and not _is_likelihood(call)):
        return None
    sums = scores.double().exp().sum(1)
    if not float((sums - 1).abs().max()) >= _OF_BFLOAT16:  # also true for NaN
        return None
    total = float(sums.mean()) if form == "logits" else 1.0
    what = "probabilities" if form == "probabilities" else f"scores whose exponentials sum to {total:.3g} instead of 1"
    remedy = "use `nn.CrossEntropyLoss()` on the scores"
    if form == "probabilities":
        remedy = "use `nn.CrossEntropyLoss()` on the scores, without the softmax; or pass `torch.log_softmax(x, 1)`"
    why = "Larger scores alone make the loss as small as one likes: wrong classes are never pushed down."
    if form == "probabilities":
        why = "Without the logarithm a confident mistake costs hardly more than a close one, and its gradient vanishes."
    limit = "a negative log likelihood of values that are not log probabilities"
    return Wrong("error", f"the negative log likelihood is taken of {what}", why, remedy, limit)


def _is_likelihood(call: LossCall) -> bool:
    """Whether the user's own loss is the negative mean of the right class's output."""
    target = call.target.long().unsqueeze(1)
    if call.name or int(target.min()) < 0 or int(target.max()) >= call.input.shape[1] or call.value.numel() != 1:
        return False
    mean = float(-call.input.double().gather(1, target).mean())
    return abs(mean - float(call.value)) <= 1e-4 * max(abs(mean), 1e-6)


def one_output(evidence: Evidence, call: LossCall) -> Wrong | None:
    """A cross entropy whose softmax goes over one output, or over the samples of a batch."""
    if call.name != "cross_entropy":
        return None
    alone = call.input.ndim > 1 and call.input.shape[1] == 1
    if not alone and not (call.input.ndim == 1 and len(call.input) > 1 and call.target.is_floating_point()):
        return None
    losses = evidence.trial.losses
    what = "over one output, which is always certain" if alone else "over the samples of the batch instead of classes"
    remedy = "use `nn.MSELoss()` for quantities, or `nn.BCEWithLogitsLoss()` with `targets.float()` for two classes"
    text = f"the softmax of cross entropy goes {what}: outputs {show_shape(call.input.shape)}"
    constant = f", and the loss is {losses[0]:.3g} at first and {losses[-1]:.3g} after {several(len(losses), 'step')}"
    why, limit = "Nothing can be learned from it.", "cross entropy over one output, or over the samples of a batch"
    return Wrong("error", text + (constant if losses else ""), why, remedy, limit)


def rates_as_logarithms(evidence: Evidence) -> Wrong | None:
    """A Poisson loss that gets rates instead of their logarithms, or logarithms instead of rates."""
    if evidence.calls.rates_below_zero:
        return Wrong(
            "error",
            "poisson_nll_loss with log_input=False gets outputs below 0 as rates",
            "The logarithm of such a rate is NaN, and outputs above 0 are fitted as the rate itself.",
            "`log_input=True` if the network predicts the logarithm of the rate; else pass `softplus` of the output",
            limit="poisson_nll_loss with log_input=False for outputs below 0",
        )
    if not evidence.calls.exp_of_exp:
        return None
    return Wrong(
        "error",
        "poisson_nll_loss with log_input=True, its default, gets the output of `exp`, and applies `exp` again",
        "The rate is fitted as if it were its logarithm: the expected count is never below one, and predictions are "
        "far off.",
        "pass the logarithm, without the `exp`, or set `log_input=False`",
        limit="poisson_nll_loss with log_input=True for the output of `exp`",
    )


def smoothed_away(_: Evidence, call: LossCall) -> Wrong | None:
    """Label smoothing so strong that the targets are nearly the same for all classes."""
    if call.smoothing < _SMOOTHED or call.input.ndim < 2:
        return None
    other = call.smoothing / call.input.shape[1]
    return Wrong(
        "error",
        f"label_smoothing={call.smoothing:g} makes the target {1 - call.smoothing + other:.3g} for the right class and "
        f"{other:.3g} for each other class",
        "Such targets are nearly the same for all classes.",
        "`nn.CrossEntropyLoss(label_smoothing=0.1)`: label_smoothing is the share taken from the right class, not the "
        "share left to it",
        limit=f"a label_smoothing of {_SMOOTHED:g} or more",
    )


def classes_for_numbers(evidence: Evidence, call: LossCall) -> Wrong | None:
    """Cross entropy for quantities, or for classes of which several may be right."""
    if call.name != "cross_entropy" or call.input.ndim < 2:
        return None
    if (
        evidence.setup.measures
        and _gets_targets(evidence, call)
        and not any(other.name in REGRESSION for other in evidence.calls.losses)
    ):
        return Wrong(
            "error",
            f"cross entropy between outputs {show_shape(call.input.shape)} and targets of a regression",
            "Cross entropy tells classes apart, and ignores how far a prediction is from a quantity.",
            "use `nn.MSELoss()`, with as many outputs as there are quantities",
            limit="cross entropy for quantities",
        )
    if not call.target.is_floating_point() or (sums := _other_sums(call)) is None:
        return None
    return Wrong(
        "error",
        f"the targets of cross entropy {sums}, not to 1",
        "The softmax makes classes compete, but here several may be right, or none.",
        "use `nn.BCEWithLogitsLoss()`, which treats each class by itself",
        limit="targets of cross entropy that do not sum to 1 over the classes, within 0.02, in 2 % of the samples",
    )


def softmax_for_several(_: Evidence, call: LossCall) -> Wrong | None:
    """Probabilities that a softmax makes compete, compared one by one with classes of which several may be right."""
    if call.name not in ("binary_cross_entropy", "") or call.input.ndim < 2 or call.input.shape[1] < 2:
        return None
    sums = _other_sums(call)
    if sums is None or not is_binary(call.target):
        return None
    if form_of(call.input) != "probabilities":
        return None
    return Wrong(
        "error",
        f"the outputs of each sample sum to 1, as after a softmax, but the targets {sums}",
        "The softmax makes classes compete: of two that are right, only one can be above a half.",
        "leave out the softmax and use `nn.BCEWithLogitsLoss()`; for predictions: `model(x) > 0`",
        limit="outputs that sum to 1 over the classes for targets 0 and 1 that do not, in 2 % of the samples",
    )


def _other_sums(call: LossCall) -> str | None:
    """What targets in the shape of the outputs sum to over the classes, in words; None where it is 1."""
    if call.target.shape != call.input.shape:
        return None
    sums = call.target.double().sum(1)
    off = float(((sums - 1).abs() > 0.02).double().mean())
    if off < 0.02:
        return None
    low, high = float(sums.min()), float(sums.max())
    return f"sum to {low:.3g} to {high:.3g} over the classes in {percent(off, 0)} of the samples"


def _gets_targets(evidence: Evidence, call: LossCall) -> bool:
    """Whether a loss gets the loader's targets, possibly rounded or truncated to integers; other targets may be
    indices of pairs."""
    targets = main_tensor(parts(evidence.train.raw[0])[1])
    if targets is None or targets.numel() != call.target.numel():
        return False
    values = targets.detach().cpu().double().flatten()
    passed = call.target.cpu().double().flatten()
    return torch.equal(values, passed) or torch.equal(values.trunc(), passed) or torch.equal(values.round(), passed)


def outside_unit(_: Evidence, call: LossCall) -> Wrong | None:
    """Binary cross entropy with targets outside 0 to 1."""
    if call.name not in BINARY or not call.target.numel():
        return None
    low, high = float(call.target.min()), float(call.target.max())
    if low >= 0 and high <= 1:
        return None
    remedy = "use `nn.CrossEntropyLoss()` with an output for each class, or `nn.MSELoss()` for quantities"
    if high > low and bool(((call.target == low) | (call.target == high)).all()):  # as in a mask of 0 and 255
        moved = f"(targets {-low:+g})" if low else "targets"
        remedy = f"scale the two values to 0 and 1: `{moved} / {high - low:g}`"
    return Wrong(
        "error",
        f"binary cross entropy gets targets from {low:.3g} to {high:.3g}",
        "Its targets are probabilities, from 0 to 1. For targets outside it has no minimum.",
        remedy,
        limit="binary cross entropy with targets outside 0 to 1",
    )


def exclusive(evidence: Evidence, call: LossCall) -> Wrong | None:
    """Binary cross entropy of each class where exactly one class is right."""
    target = call.target
    if call.name not in BINARY or target.ndim != 2 or target.shape[1] < 3 or target.shape != call.input.shape:
        return None
    if not is_binary(target) or not bool((target.sum(1) == 1).all()) or len(target) < 8:
        return None
    text = (
        f"binary cross entropy treats each of {several(target.shape[1], 'class', 'classes')} by itself, but exactly "
        "one is right"
    )
    why = "Most targets are 0 whatever the input, so a small loss can hide wrong predictions. A softmax compares "
    why += "classes that exclude each other."
    remedy = "use `nn.CrossEntropyLoss()` on the scores, without sigmoid or softmax, with class numbers as targets"
    limit = "binary cross entropy for exclusive classes: a warning if outputs sum to 1, or if the accuracy is "
    limit += f"{percent(_BETTER, 0)} higher with cross entropy"
    if form_of(call.input) == "probabilities":
        return Wrong("warning", f"{text}; outputs are probabilities that sum to 1", why, remedy, limit)
    tried = _with_cross_entropy(evidence)
    if tried is None or tried[1] < tried[0] + _BETTER:
        return Wrong("note", text, why, remedy, limit)
    accuracies = (
        f"; after the same steps the accuracy is {percent(tried[0], 0)}, and {percent(tried[1], 0)} with cross entropy"
    )
    return Wrong("warning", text + accuracies, why, remedy, limit)


def _with_cross_entropy(evidence: Evidence) -> tuple[float, float] | None:
    """The accuracies after the unchanged trial and after a trial with cross entropy; None where that cannot be
    tried."""

    def instead(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        inside = bool(((outputs >= 0) & (outputs <= 1)).all())
        scores = torch.logit(outputs, eps=1e-6) if inside else outputs
        return functional.cross_entropy(scores, targets.argmax(1) if targets.ndim == 2 else targets)

    if evidence.first.loss_outputs is None:
        return None
    other = evidence.variant("cross entropy", Change(loss=instead))
    both = (evidence.after_training, evidence.in_training(other.replica))
    own, changed = (_accuracy(predictions.outputs, predictions.targets) for predictions in both)
    return None if own is None or changed is None or other.error is not None else (own, changed)


def _accuracy(outputs: torch.Tensor, targets: torch.Tensor | None) -> float | None:
    if targets is not None and targets.ndim == 2 and targets.shape[1] > 1:
        targets = targets.argmax(1)
    known = quality(outputs, targets)
    return None if known is None else known.accuracy
