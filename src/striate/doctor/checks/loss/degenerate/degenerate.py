"""loss.degenerate: can the loss be small, or constant, without any right prediction?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.degenerate.classes_together import classes_together
from striate.doctor.checks.loss.degenerate.flow_likelihood import likelihood_of_noise
from striate.doctor.checks.loss.degenerate.unbounded import (
    always_zero,
    falls_without_bound,
    lower_for_equal_outputs,
    right_class_masked,
)
from striate.doctor.checks.loss.pairs.contrastive_partners import scores_all_pairs
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import ignores_targets, predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import are_distances
from striate.doctor.evidence.substituted_outputs import loss_of_batch
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import altered, copied, leaf, main_tensor, size_of
from striate.records import Finding
from striate.wording import percent, several

_FALLEN = 0.2
_FALLING = 0.8
_BLIND = 0.1
_BEHIND = 3.0
_FLAT, _WORSE = 0.02, 1.2
_PAIRS, _NARROWED = 60, 0.9


def _run(evidence: Evidence) -> Iterator[Finding]:
    trial = evidence.trial
    if trial.error is not None or len(trial.rows) < 10:
        return
    rules = _OF_FINITE if all(map(math.isfinite, trial.losses)) else _OF_ANY
    found = next(((text, limit) for rule, limit in rules if (text := rule(evidence)) is not None), None)
    if found is None:
        return
    text, limit = found
    curve = tuple(loss for loss in trial.losses if math.isfinite(loss))
    evidence.pictures["loss.degenerate"] = Picture("lines", "The loss of the trial", {"loss": curve})
    yield DEGENERATE.finding(
        severity="error",
        where="the loss",
        measured=text,
        limit=limit,
        why="This loss is constant, or can be made small without learning the task.",
        remedy=_remedy(evidence, text),
    )


def _unbounded(evidence: Evidence) -> str | None:
    with suppress(NoEvidence):
        return falls_without_bound(evidence)
    return None


def _lower_for_equal_outputs(evidence: Evidence) -> str | None:
    return lower_for_equal_outputs(evidence) if _of_chance(evidence) and predicts_targets(evidence) else None


def _of_chance(evidence: Evidence) -> bool:
    """Whether predictions of classes are at chance after the trial."""
    try:
        known = evidence.after_training.quality
    except NoEvidence:
        return False
    return known is not None and known.guesses


def _no_gradient(evidence: Evidence) -> str | None:
    """A constant loss, whose gradient with respect to the network's outputs is zero."""
    trial = evidence.trial
    outputs = next((view for view in reversed(evidence.first.layers) if view.name == "the network"), None)
    if outputs is None and evidence.first.layers:
        outputs = evidence.first.layers[-1]
    norms = [row.raw for row in trial.rows if row.raw is not None]
    if outputs is None or not norms or max(norms) > 1e-10 or evidence.first.loss_needs_gradient is False:
        return None
    if outputs.gradient_norm is None or outputs.gradient_norm > 1e-10:
        return None
    known = evidence.start_training.quality
    if (known is not None and not known.guesses) or (known is None and trial.losses[0] < 1e-6):
        return None  # right predictions: a hinge loss has no gradient there
    return (
        "the gradient of the loss with respect to the network's outputs is zero in each of "
        f"{several(len(norms), 'step')}, and the loss stays {trial.losses[0]:.3g}"
    )


def _ignores_targets(evidence: Evidence) -> str | None:
    """A loss that ignores the targets, where it receives them from the doctor's step, or receives the network's own
    predictions in their place. Elsewhere the step may learn without labels, as from a teacher."""
    usual = evidence.setup.own_step and evidence.setup.source is None
    if not usual and not _of_own_predictions(evidence):
        return None
    after = evidence.after_training
    known = after.quality
    if known is None or not known.guesses or not ignores_targets(evidence):
        return None
    reached = "predictions are no better than a guess"
    if known.accuracy is not None:
        reached = f"the accuracy is {percent(known.accuracy, 0)} (the most common class: {percent(known.common, 0)})"
    replaced = "" if usual else ", which are replaced by the network's own predictions"
    return (
        f"loss and gradients are {_IGNORED} in another order{replaced}; after "
        f"{several(len(evidence.trial.rows), 'step')} {reached}"
    )


_IGNORED = "exactly the same with the targets of the batch"


def _of_own_predictions(evidence: Evidence) -> bool:
    """Whether the targets of all classification losses of a step are the classes that the network predicts. The nearest
    embeddings, as of two views of each sample, are no classes."""
    calls, outputs = list(class_losses(evidence)), main_tensor(evidence.first.outputs)
    return bool(calls) and all(
        outputs is not None
        and call.input.shape == outputs.shape
        and call.input.ndim == call.target.ndim + 1
        and torch.equal(call.input.argmax(1), call.target)
        for call in calls
    )


def same_in_any_order(evidence: Evidence) -> str | None:
    """A loss that depends on the targets of a batch, but not on which target belongs to which sample."""
    batch, trial = evidence.train.raw[0], evidence.trial
    moved, alike = _moved(evidence), _moved(evidence, alike=True)
    start = evidence.start_training.outputs
    if moved is None or alike is None or _deviation(start) <= 1e-4 * float(start.abs().mean()):
        return None  # outputs that are equal for all inputs have the same loss in any order
    sizes, path = [call.target.numel() for call in class_losses(evidence)], evidence.samples.y_path
    targets = None if path is None else leaf(batch, path)
    if sizes and targets is not None and min(sizes) > targets.numel():
        return None  # not the targets, but such as lengths of sentences by which a sum is divided
    texts = []
    for trained in (None, trial):
        own, other, same = (loss_of_batch(evidence, trained, copied(changed)) for changed in (batch, moved, alike))
        if own is None or other is None or same is None or not math.isfinite(same):
            return None
        scale = max(abs(own), abs(same), 1e-12)
        if abs(other - own) > 1e-5 * scale or abs(same - own) < 1e-2 * scale:
            return None
        texts = [f"{own:.4g}", f"{other:.4g}", f"{same:.3g}"]
    if _one_sided(evidence):
        return None
    return (
        f"after {several(len(trial.rows), 'step')} the loss of the first batch is {texts[0]}, {texts[1]} with the "
        f"targets in another order, and {texts[2]} with the same target for all samples: it ignores which target "
        "belongs to which sample"
    )


def _one_sided(evidence: Evidence) -> bool:
    """Whether all targets lie above the outputs, or all below, so that the mean absolute error is the same in any
    order."""
    after = evidence.after_training
    if after.targets is None or after.targets.numel() != after.outputs.numel():
        return False
    errors = after.outputs.flatten() - after.targets.flatten()
    return bool((errors > 0).all() or (errors < 0).all())


def _without_end(evidence: Evidence) -> str | None:
    """A loss that falls below zero while the predictions get worse."""
    trial = evidence.trial
    first, last = trial.losses[0], trial.level()
    if last > min(0.0, first) - max(abs(first), 1e-3) or not predicts_targets(evidence):
        return None
    start, after = evidence.start_training, evidence.after_training
    begun, known = start.quality, after.quality
    if begun is None or known is None or not known.guesses or known.loss < _WORSE * max(begun.loss, known.constant):
        return None
    return (
        f"in {several(len(trial.rows), 'step')} the loss falls from {first:.3g} to {last:.3g}, below zero, while the "
        f"metric of the predictions worsens from {begun.loss:.3g} to {known.loss:.3g}"
    )


def _falls_alone(evidence: Evidence) -> str | None:
    """A loss that falls while the predictions do not get better."""
    trial = evidence.trial
    first, last = trial.losses[0], trial.level()
    if not first > 0 or min(trial.losses) < -1e-3 * first or last > _FALLING * first:
        return None
    if last > _FALLEN * first:  # more steps show whether it falls further without better predictions
        if not _behind(evidence, trial, _FALLING):
            return None
        trial = evidence.variant("longer", Change(), steps=1000)
        last = trial.level()
        if trial.error is not None or not last <= _FALLEN * first:
            return None
    text = _behind(evidence, trial, 1 / _BEHIND)
    return (
        None
        if text is None
        else f"in {several(len(trial.rows), 'step')} the loss falls from {first:.3g} to {last:.3g}, {text}"
    )


def _behind(evidence: Evidence, trial: Trial, ratio: float) -> str | None:
    """What was measured, where the predictions did not improve as the loss fell; None where they did.

    The loss, relative to its first value, has to be at most `ratio` times the relative metric of the predictions.
    """
    first, last = trial.losses[0], trial.level()
    start = evidence.start_training
    after = evidence.after_training if trial is evidence.trial else evidence.in_training(trial.replica)
    begun, known = start.quality, after.quality
    if begun is not None and known is not None and predicts_targets(evidence):
        if are_distances(after.outputs, after.targets):
            return None
        of_loss, of_metric = last / first, known.loss / max(begun.loss, 1e-12)
        if of_loss > ratio * of_metric or not (known.guesses or known.kind == "numbers"):
            return None
        moved = _with_other_targets(evidence, trial)
        if (moved is None and not known.guesses) or (moved is not None and moved > max(_BLIND * first, 1.5 * last)):
            return None
        predictions = f"the metric of the predictions goes from {begun.loss:.3g} to {known.loss:.3g}"
        if known.accuracy is not None:
            predictions = (
                f"the accuracy is {percent(known.accuracy, 0)} (the most common class: {percent(known.common, 0)})"
            )
        same = "" if moved is None else f"; with targets of other samples the loss is {moved:.3g}"
        return f"but {predictions}{same}"
    deviation = _deviation(after.outputs) / max(_deviation(start.outputs), 1e-12)
    limit = _FLAT if last <= _FALLEN * first else 0.5
    if deviation <= limit and not _compares(evidence):
        return (
            f"while outputs become the same for all inputs: their standard deviation is {deviation:.2g} times the "
            "initial one"
        )
    return None


def _only_pulls(evidence: Evidence) -> str | None:
    """A loss that pulls pairs of embeddings together and pushes none apart, while embeddings become alike; or one that
    only pushes. A cross entropy of all pairs of samples does both."""
    calls = list(class_losses(evidence))
    if any(scores_all_pairs(call.input, call.target) for call in calls):
        return None
    try:
        if any(call.input.shape[1:] == evidence.start_training.outputs.shape[1:] for call in calls):
            return None  # scores of classes, perhaps of one batch with several states of the weights
        pulled, pushed = evidence.pairs
        narrowed = _deviation(evidence.after_training.outputs) / max(_deviation(evidence.start_training.outputs), 1e-12)
    except NoEvidence:
        return None
    if len(pushed) >= _PAIRS and not len(pulled):
        return f"the gradient pushes all {len(pushed)} pairs of embeddings apart and pulls none together"
    if len(pulled) < _PAIRS or len(pushed) or narrowed > _NARROWED:
        return None
    return (
        f"the gradient pulls all {len(pulled)} pairs of embeddings together and pushes none apart; their standard "
        f"deviation over samples is {narrowed:.2g} times the initial one"
    )


def _with_other_targets(evidence: Evidence, trial: Trial) -> float | None:
    """The loss of the trained network with targets that belong to other samples; None where they cannot be moved."""
    moved = _moved(evidence)
    return None if moved is None else loss_of_batch(evidence, trial, moved)


def _moved(evidence: Evidence, *, alike: bool = False) -> Any:
    """The first batch with its targets in another order, or all like the first (`alike`); None where it has no targets
    of one row per sample."""

    def change(targets: torch.Tensor) -> torch.Tensor:
        # A random order: a shift would only rename classes that come one after the other.
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
        return targets[:1].expand_as(targets).clone() if alike else targets[order.to(targets.device)]

    batch, path = copied(evidence.train.raw[0]), evidence.samples.y_path
    targets = None if path in (None, evidence.samples.x_path) else leaf(batch, path)
    # Where there are more or fewer rows than samples, the rows themselves say which sample they belong to.
    if path is None or targets is None or not targets.ndim or len(targets) != size_of(batch):
        return None
    return altered(batch, path, change)


def _compares(evidence: Evidence) -> bool:
    """Whether the targets have the shape of the outputs and are the same for all samples, so that equal outputs are
    right."""
    targets = main_tensor(evidence.first.loss_targets)
    outputs = evidence.first.loss_outputs
    if targets is None or not isinstance(outputs, torch.Tensor) or targets.shape != outputs.shape:
        return False
    return _deviation(targets) < 1e-3 * max(float(targets.float().abs().mean()), 1e-12)


def _deviation(outputs: torch.Tensor) -> float:
    """The standard deviation of outputs over the samples, averaged over their elements. Raises NoEvidence."""
    if len(outputs) < 2 or not outputs.is_floating_point():
        raise NoEvidence("outputs that cannot be compared between samples")
    return float(outputs.double().std(0).mean())


def _remedy(evidence: Evidence, text: str) -> str:
    if "likelihood of noise" in text:
        return "add the log determinant of each layer that maps data to noise: `log_prob = log_base + log_det`"
    if "two by two" in text:
        return (
            "compare each pair of a class with near negatives of the anchor, with axes for anchor, positive and "
            "negative: `dist.unsqueeze(2) - dist.unsqueeze(1) + margin`"
        )
    if "all lie together" in text and "whatever their class" in text:
        return (
            "push samples of other classes away; where the nearest of them is chosen, exclude the rest by a value that "
            "is never the smallest, `dist.masked_fill(same, torch.inf).min(dim=1)`, not by zero"
        )
    if _IGNORED in text and evidence.setup.source is not None:
        return "give the loss the labels that the loader yields: `criterion(outputs, labels)`"
    if _IGNORED in text:
        loss = "cross_entropy" if evidence.setup.classifies else "mse_loss"
        return f"compare outputs with targets: `loss=torch.nn.functional.{loss}`"
    if evidence.setup.classifies:
        return "use `nn.CrossEntropyLoss()` on the scores of all samples and classes, without factors, masks or limits"
    if evidence.setup.measures:
        return (
            "use `nn.MSELoss()`; if the error is divided by a scale, add `torch.log(scale)`; if it is averaged over a "
            "mask, make sure that the mask is not empty"
        )
    if predicts_targets(evidence):
        return (
            "print each term of the loss: one falls without better predictions and outweighs the others. Give all the "
            "same scale, `loss = reconstruction.sum() / len(x) + divergence.sum() / len(x)`, or that one a small weight"
        )
    return (
        "add a term that keeps outputs apart: negative pairs (`nn.TripletMarginLoss`, a contrastive loss), or a "
        "penalty on a small standard deviation"
    )


_Rule = tuple[Callable[[Evidence], str | None], str]
"""A function that returns what was measured (or None), and the limit."""
_MASKED = (right_class_masked, "the right class has the score of a mask")
_FALLS_ON = (_unbounded, "the loss falls without end if an output is one number for all samples")
_OF_ANY: tuple[_Rule, ...] = (_MASKED, _FALLS_ON)
_OF_FINITE: tuple[_Rule, ...] = (
    _MASKED,
    (always_zero, "a loss of zero in all steps while predictions are at chance"),
    (likelihood_of_noise, "a flow gives noise a negative log likelihood below the entropy of the noise"),
    (_no_gradient, "the gradient with respect to the outputs is exactly zero in all steps examined"),
    (_ignores_targets, "a loss that ignores the targets, and predictions at chance"),
    (same_in_any_order, "the loss is the same with the targets in any order"),
    (_without_end, "the loss falls below zero while predictions get worse"),
    _FALLS_ON,
    (_lower_for_equal_outputs, "the loss is lower for one number in all outputs than for right predictions"),
    (
        _falls_alone,
        f"the loss falls below {percent(_FALLEN, 0)}, {_BEHIND:g} times more than the metric of the predictions, and "
        f"with targets of other samples to {percent(_BLIND, 0)}, or to 1.5 times itself; without targets, the standard "
        f"deviation of outputs falls to {percent(_FLAT, 0)}",
    ),
    (_only_pulls, "each pair of embeddings is pulled together, or each is pushed apart"),
    (
        classes_together,
        "the loss is as small with classes that lie together, two by two or all, as with each by itself",
    ),
)

DEGENERATE = Check(
    codes=("loss.degenerate",),
    run=_run,
    explains="loss.ignored-class model.collapsed model.dead-units model.vanishing-gradient optim.lr-too-low "
    "optim.no-step fit.*",
)
