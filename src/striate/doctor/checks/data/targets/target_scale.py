"""`data.target-scale`: do numeric targets have a scale that the network can reach?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.targets.keypoints import unscaled_maps
from striate.doctor.checks.data.targets.tiny_targets import LEFT, LEFT_SCALED, TINY, tiny_targets
from striate.doctor.checks.loss.sign.paired_quantities import FAR, drowned, out_of_reach
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.quality import root_mean_square
from striate.doctor.evidence.quantiles import trained_quantiles
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import Path, altered, leaf, main_tensor, mapped
from striate.records import Finding
from striate.wording import several

_FAR = 10.0
_LEARNED = 0.5
_EXPLAINED, _GAIN = 0.2, 0.2
_HUGE, _GOOD, _LESS = 100.0, 0.9, 3.0
"""For huge targets: their least size, the R² below which they are reported although it is high, and how many times less
error standardized targets have to leave."""

_SAME = 0.1
"""The largest change by standardizing of targets that are standardized already."""

_QUANTILES_LESS = 0.75
"""The largest ratio of the loss with standardized targets to the original one, in standard deviations of targets."""

_STANDARDIZE = (
    "standardize the targets with statistics of training, `mean, std = y.mean(0), y.std(0)`, train on `(y - mean) "
    "/ std`, and predict `model(x) * std + mean`"
)


def _run(evidence: Evidence) -> Iterator[Finding]:
    found = unscaled_maps(evidence) or _one_of_several_outputs(evidence) or _tiny(evidence) or _quantiles(evidence)
    if found is not None:
        yield found
        return
    y, path = evidence.samples.y, evidence.samples.y_path
    outputs = main_tensor(evidence.first.outputs)
    if y is None or path is None or not y.is_floating_point() or outputs is None or not predicts_targets(evidence):
        raise NoEvidence("the targets are not numbers that outputs are compared with")
    if evidence.target_scale is not None:
        y = evidence.target_scale.of(y)
    size, reached = root_mean_square(y), root_mean_square(outputs)
    if not size >= _FAR * max(reached, 1e-12) or root_mean_square(_to_standard(y)(y) - y) < _SAME:
        return  # if all outputs are 0, any targets are that far
    own = -math.inf if evidence.trial.diverged else _explained(evidence.after_training)
    if own is None or _breaks_at_once(evidence.trial.losses):
        return
    if own >= (_LEARNED if size < _HUGE else _GOOD):
        if size >= _HUGE * max(1.0, reached):
            yield _note(y, reached, f"{several(len(evidence.trial.rows), 'step')} R² is {own:.2f}")
        return
    reached_text = "the loss is NaN or Inf" if own == -math.inf else f"R² is {own:.2f}"
    for what, batches in _standardized(evidence, y, path):
        trial = evidence.variant(f"{what} standardized", Change(), batches=batches)
        other = _explained(evidence.predictions_of(trial, batches[:8])) if trial.rows and trial.error is None else None
        least = max(_EXPLAINED, own + _GAIN) if own < _LEARNED else 1 - (1 - own) / _LESS
        if other is not None and other >= least:
            yield _finding(y, reached, f"{several(len(trial.rows), 'step')} {reached_text}, with", what, own, other)
            return


def _one_of_several_outputs(evidence: Evidence) -> Finding | None:
    """A finding for one of several outputs, such as boxes in pixels with outputs that are fractions of the image, or an
    area in pixels next to a position; else None."""
    beside = drowned(evidence)
    if beside is not None:
        large, other, own, freed = beside
        return TARGET_SCALE.finding(
            severity="warning",
            where=f"training targets, `{large.name}`",
            measured=f"their root mean square is {root_mean_square(large.target):.3g}; after "
            f"{several(len(evidence.trial.rows), 'step')} the output `{other.name}` correlates by {own:.2f} with "
            f"its targets, and by {freed:.2f} if the large targets are standardized",
            limit="targets a hundred times as large as their output, and another output that correlates much "
            "better with its targets if these large targets are standardized",
            why="Gradients mostly come from these large errors: the network does not learn its other outputs.",
            remedy="standardize them with statistics of training, `mean, std = y.mean(0), y.std(0)`, train on `(y "
            "- mean) / std`, and predict `model(x) * std + mean`",
        )
    found = out_of_reach(evidence)
    if found is None:
        return None
    pair, size, reached = found
    return TARGET_SCALE.finding(
        severity="error",
        where=f"training targets, `{pair.name}`",
        measured=f"their root mean square is {size:.3g}, and that of the output `{pair.name}` is {reached:.2g}, "
        f"even after {several(len(evidence.trial.rows), 'step')}",
        limit=f"targets of one of several outputs that are {FAR:g} times as large as the output after the trial, "
        "and are part of the loss",
        why="The outputs are far from the targets, as for boxes in pixels if the output is a fraction of the image.",
        remedy="give both the same scale: divide boxes in pixels by the side of the image, `boxes / "
        "boxes.new_tensor([width, height, width, height])`",
    )


def _tiny(evidence: Evidence) -> Finding | None:
    found = tiny_targets(evidence)
    if found is None:
        return None
    return TARGET_SCALE.finding(
        severity="error",
        where="training targets",
        measured=f"targets have a root mean square of {found.size:.2g}, the first outputs one of {found.given:.2g}; "
        f"after {several(found.steps, 'step')} the loss is {found.own:.3g} times that of a constant prediction, and "
        f"{found.other:.2f} times with targets of variance 1",
        limit=f"first outputs {TINY:g} times as large as the targets, and a loss after the trial at least {LEFT:g} "
        f"times that of a constant prediction, but at most {LEFT_SCALED:g} times with targets of variance 1",
        why="The loss is small from the start and looks as if training were done, although errors are larger than "
        "the targets. With a usual learning rate, a step moves outputs by more than the size of the targets.",
        remedy="scale the targets with statistics of training, `std = y.std(0)`, train on `y / std`, and predict "
        "`model(x) * std`",
    )


def _quantiles(evidence: Evidence) -> Finding | None:
    """A finding for forecasts by quantiles that all begin far from their targets; else None. Pinball losses have the
    units of the targets, so that they can be compared in standard deviations."""
    y, path, trial = evidence.samples.y, evidence.samples.y_path, evidence.trial
    if y is None or path is None or not y.is_floating_point() or evidence.calls.losses or trial.error is not None:
        return None
    found = trained_quantiles(evidence) if float(y.double().square().mean()) > _FAR**2 else None
    if found is None or found.levels is not None or found.outputs[..., :1].numel() != len(found.outputs) * y[0].numel():
        return None
    size, reached = root_mean_square(y), root_mean_square(found.outputs)
    if size < _FAR * reached:
        return None
    batches = [_with_targets(batch, path, _to_standard(y)) for batch in evidence.train.raw]
    other = evidence.variant("targets standardized", Change(), batches=batches)
    own, scaled = trial.level() / float(y.std()), other.level()
    if other.error is not None or not scaled < _QUANTILES_LESS * own:
        return None
    return TARGET_SCALE.finding(
        severity="error",
        where="training targets",
        measured=f"targets have a root mean square of {size:.3g}, and the first outputs, {found.outputs.shape[-1]} "
        f"quantiles, one of {reached:.2g}; after {several(len(trial.rows), 'step')} the loss is {own:.2g} standard "
        f"deviations, and {scaled:.2g} with standardized targets",
        limit=f"targets {_FAR:g} times as large as the first outputs, which are quantiles, and a loss in standard "
        f"deviations that is {_QUANTILES_LESS:g} times as high with standardized targets",
        why="A step moves weights by about the learning rate, whatever the error: reaching such large numbers "
        "takes very long.",
        remedy="standardize the targets with statistics of training, like the inputs: train on `(y - mean) / std`, "
        "and predict `model(x) * std + mean`",
    )


def _standardized(evidence: Evidence, y: torch.Tensor, path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Batches with standardized targets; if inputs are large, too, also batches with standardized inputs and
    targets."""
    batches = [_with_targets(batch, path, _to_standard(y)) for batch in evidence.train.raw]
    yield "targets", batches
    x, place = evidence.samples.x, evidence.samples.x_path
    if x is not None and place is not None and x.is_floating_point() and float(x.double().square().mean()) > _FAR**2:
        yield "inputs and targets", [altered(batch, place, _to_standard(x)) for batch in batches]


def _with_targets(batch: Any, path: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with its targets changed wherever they occur: some contain them a second time for the metric."""
    targets = leaf(batch, path)

    def changed(_: Path, tensor: torch.Tensor) -> torch.Tensor:
        same = targets is not None and tensor.dtype == targets.dtype and torch.equal(tensor, targets)
        return change(tensor) if same else tensor

    return mapped(batch, changed)


def _to_standard(values: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    mean, deviation = values.mean(0), values.std(0).clamp_min(1e-12)
    return lambda tensor: (tensor - mean.to(tensor.device)) / deviation.to(tensor.device)


def _finding(y: torch.Tensor, reached: float, tried: str, what: str, own: float, other: float) -> Finding:
    mean, deviation = y.mean(0), y.std(0).clamp_min(1e-12)
    both = ", and the inputs by theirs: `x = (x - x.mean(0)) / x.std(0)`" if what != "targets" else ""
    return TARGET_SCALE.finding(
        severity="error" if own < 0.1 else "warning",
        where="training targets",
        measured=f"targets have a mean of {_span(mean)} and a standard deviation of {_span(deviation)}, and the "
        f"first outputs are about {reached:.2g}; after {tried} standardized {what} R² is {other:.2f}",
        limit=f"targets {_FAR:g} times as large as the first outputs, and R² below {_LEARNED:g} after the trial, but "
        f"{_GAIN:g} higher, at least {_EXPLAINED:g}, after the same steps with standardized targets"
        if own < _LEARNED
        else f"targets of {_HUGE:g} or more, {_FAR:g} times as large as the first outputs, and R² below {_GOOD:g} "
        f"after the trial, but {_LESS:g} times less of the error left with standardized targets",
        why="A step moves weights by about the learning rate, whatever the error: reaching such large numbers "
        "takes very long, and until then these errors dominate the gradients.",
        remedy=f"{_STANDARDIZE}{both}",
    )


def _note(y: torch.Tensor, reached: float, learned: str) -> Finding:
    return TARGET_SCALE.finding(
        severity="note",
        where="training targets",
        measured=f"targets have a mean of {_span(y.mean(0))} and a standard deviation of {_span(y.std(0))}, and the "
        f"first outputs are about {reached:.2g}; after {learned}: the network copes",
        limit=f"targets of {_HUGE:g} or more, {_HUGE:g} times as large as the first outputs",
        why="Losses and gradients have the units of the targets: learning rates, clipping and weight decay that "
        "suit values around 1 do not suit these.",
        remedy=_STANDARDIZE,
    )


def _breaks_at_once(losses: list[float]) -> bool:
    """Whether the loss becomes NaN or Inf without growing before; if steps are too long for large errors, it grows
    first."""
    finite = list(itertools.takewhile(math.isfinite, losses))
    return len(finite) < len(losses) and (not finite or max(finite) < _FAR * finite[0])


def _explained(predictions: Predictions) -> float | None:
    found = predictions.quality
    return None if found is None or found.kind != "numbers" else 1 - found.loss / max(found.constant, 1e-12)


def _span(values: torch.Tensor) -> str:
    low, high = f"{float(values.min()):.3g}", f"{float(values.max()):.3g}"
    return low if low == high else f"{low} to {high}"


TARGET_SCALE = Check(
    codes=("data.target-scale",),
    run=_run,
    quick=False,
    explains="loss.initial-off loss.not-finite loss.degenerate model.exploding-gradient model.collapsed "
    "model.dead-units optim.lr-too-high optim.lr-too-low optim.clip-too-small fit.*",
)
