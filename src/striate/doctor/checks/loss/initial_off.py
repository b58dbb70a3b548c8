"""`loss.initial-off`: are the first predictions of an untrained network too confident?"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import python_path
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import are_of_batch
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.learning import trains_a_part
from striate.doctor.evidence.quality import Quality, form_of, quality
from striate.doctor.evidence.step_trace import WHOLE
from striate.doctor.evidence.trial import Change
from striate.doctor.evidence.trial_variants import INITIALIZED, fresh_weights
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_output
from striate.records import Finding
from striate.wording import listed_names, percent, several

_ABOVE = 3.0
_FAR_ABOVE = 7.0
_DEVIATION = 10.0
_LESS = 0.85
_MUCH_LESS = 0.6
_LARGE = 3.0
"""How many times as large as Kaiming's weights those of a layer are that is initialized anew."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    if trains_a_part(evidence):
        raise NoEvidence("only a small part of the network is trained, on features of a pretrained network")
    first = evidence.first
    if not first.layers and not any(evidence.setup.model.children()):
        yield from _of_weights(evidence)
        return
    x = first.shown
    if x is not None and x.ndim == 2 and x.is_floating_point() and not are_of_batch(evidence, x.cpu()):
        raise NoEvidence("the network's input is the output of another network")
    outputs, targets = first.loss_outputs, first.loss_targets
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
        predictions = evidence.start_training
        outputs, targets = predictions.outputs, predictions.targets
    if targets is None or not bool(torch.isfinite(outputs).all()):
        return
    outputs, targets = _by_class(outputs, targets)
    known = quality(outputs, targets)
    if known is None or (known.accuracy or 0.0) > known.common + 0.3:
        return
    text = _too_sure(known, outputs, targets)
    if text is None:
        return
    deviation = max(float(outputs.float().std()), 1e-6)
    layer = next((view for view in reversed(first.layers) if view.kind == "weights"), None)
    own, tried = (
        evidence.trial.losses,
        [evidence.variant("smaller outputs", Change(prepare=_divided_by(2 * deviation)))],
    )
    if layer is not None:
        smaller = Change(prepare=_smaller_layer(layer.name, 2 * deviation))
        tried.append(evidence.variant("smaller last weights", smaller))
    large = _large_layers(evidence.fresh.model)
    usual = fresh_weights(evidence, "he") if set(large) - {layer.name if layer is not None else ""} else None
    tried += [] if usual is None else [usual]
    better = min((trial for trial in tried if trial.rows), key=lambda trial: _mean(trial.losses), default=None)
    if better is None or better.error is not None or not _mean(better.losses) < _needed_ratio(known) * _mean(own):
        return
    last = layer.name if layer is not None and better is tried[1] else None
    where, how = last or "the network's outputs", f"outputs that are {2 * deviation:.3g} times smaller at first"
    if better is usual:
        where, how = listed_names(list(large)), "Kaiming's initialization"
        text += f"; the weights are up to {max(large.values()):.3g} times as large as those of Kaiming's initialization"
    measured = (
        f"{text}; with {how}, the loss after "
        f"{several(len(better.losses), 'step')} is {better.level():.3g} instead of {evidence.trial.level():.3g}, "
        f"and its mean over the steps is {_mean(better.losses):.3g} instead of {_mean(own):.3g}"
    )
    begin = f"first outputs with {_DEVIATION:g} times the standard deviation of the targets"
    begin = begin if known.kind == "numbers" else f"a first cross entropy {_ABOVE:g} nats or more above ln K"
    yield INITIAL_OFF.finding(
        severity="warning",
        where=where,
        measured=measured,
        limit=f"{begin}, and a mean loss of the trial that falls to {percent(_needed_ratio(known), 0)} once the first "
        "outputs are divided by twice their standard deviation",
        why="The first steps are spent on correcting confident predictions of random weights.",
        remedy=_remedy(last) if better is not usual else _usual_weights(large),
    )


def _of_weights(evidence: Evidence) -> Iterator[Finding]:
    """The finding for a script that multiplies by weight tensors of its own, without modules: by its cross entropy, and
    with each matrix divided by the root of its rows, as many as it has inputs."""
    call = next((one for one in evidence.calls.losses if one.name == "cross_entropy" and one.input.ndim == 2), None)
    known = None if call is None else quality(call.input, call.target)
    text = None if call is None or known is None else _too_sure(known, call.input, call.target)
    if text is None:
        return
    better = evidence.variant("smaller weights", Change(prepare=_divided_by_rows))
    own = evidence.trial
    if not better.rows or better.error is not None or not _mean(better.losses) < _LESS * _mean(own.losses):
        return
    yield INITIAL_OFF.finding(
        severity="warning",
        where="the weights",
        measured=f"{text}; with each matrix divided by the root of its number of rows at first, the loss after "
        f"{several(len(better.losses), 'step')} is {better.level():.3g} instead of {own.level():.3g}",
        limit=f"a first cross entropy {_ABOVE:g} nats or more above ln K, and a mean loss of the trial that falls to "
        f"{percent(_LESS, 0)} with smaller weights",
        why="Sums over many inputs are large: activations saturate, and the first steps are spent on correcting "
        "confident predictions of random weights.",
        remedy="divide each matrix by the root of its number of inputs where it is made: "
        "`torch.randn(inputs, units) * inputs**-0.5`",
    )


def _divided_by_rows(replica: Replica) -> None:
    with torch.no_grad():
        for weights in replica.model.parameters():
            if weights.ndim == 2:
                weights.div_(len(weights) ** 0.5)


def _by_class(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (…, K) and class numbers (…) flattened to (N, K) and (N,); other outputs and targets unchanged."""
    if targets.is_floating_point() or outputs.shape[:-1] != targets.shape or targets.ndim < 2:
        return outputs, targets
    return outputs.flatten(0, -2), targets.flatten()


def _needed_ratio(known: Quality) -> float:
    """The share of its value to which the mean loss has to fall with smaller outputs. It is lower where the first loss
    is little above chance, since training corrects that soon, as with a new head on a trained backbone."""
    if known.kind == "numbers":
        return _MUCH_LESS
    return _LESS if known.loss > known.constant + _FAR_ABOVE else _MUCH_LESS


def _too_sure(known: Quality, outputs: torch.Tensor, targets: torch.Tensor) -> str | None:
    """What was measured, where the first predictions are too confident or the first outputs too large; else None."""
    if known.kind == "numbers":
        of_targets = float(targets.float().std())
        scale = max(of_targets, float(targets.float().abs().mean()), 1e-12)
        deviation = float(outputs.float().std())
        if deviation < _DEVIATION * scale:
            return None
        return f"the standard deviation of the first outputs is {deviation:.3g}, that of the targets {of_targets:.3g}"
    many = outputs.shape[1] if known.kind == "classes" else 2
    if known.kind == "classes" and form_of(outputs) == "probabilities":
        return None  # a softmax bounds them; `model.double-softmax` reports that
    uniform = math.log(many)
    if known.loss < uniform + _ABOVE:
        return None
    return (
        f"the first predictions have a cross entropy of {known.loss:.3g}; uniform ones have ln {many} = {uniform:.3g}"
    )


def _divided_by(number: float) -> Any:
    def prepare(replica: Replica) -> None:
        def divide(_: tuple[Any, ...], output: Any) -> Any:
            return output / number if isinstance(output, torch.Tensor) else output

        change_output(replica.model, divide)

    return prepare


def _smaller_layer(name: str, number: float) -> Any:
    def prepare(replica: Replica) -> None:
        with torch.no_grad():
            for parameter in replica.model.get_submodule("" if name == WHOLE else name).parameters(recurse=False):
                parameter.div_(number)

    return prepare


def _mean(losses: list[float]) -> float:
    return sum(losses) / max(len(losses), 1) if all(map(math.isfinite, losses)) else math.inf


def _large_layers(model: nn.Module) -> dict[str, float]:
    """The trained linear and convolutional layers whose weights are far larger than those of Kaiming's initialization,
    each with how many times."""
    layers = [(name, part.weight) for name, part in model.named_modules() if isinstance(part, INITIALIZED)]
    times = {name: float(w.detach().float().std()) * (w[0].numel() / 2) ** 0.5 for name, w in layers if w.requires_grad}
    return {name: ratio for name, ratio in times.items() if ratio > _LARGE}


def _usual_weights(layers: Collection[str]) -> str:
    commands = "; ".join(f"nn.init.kaiming_normal_({python_path(name, 'model')}.weight)" for name in layers)
    return f"initialize the weights by the number of their inputs: `{commands}`"


def _remedy(layer: str | None) -> str:
    if layer is None:
        return "remove what makes the outputs large, such as a small temperature, or divide the outputs by a constant"
    path = "model" if layer == WHOLE else python_path(layer, "model")
    small = f"`nn.init.normal_({path}.weight, std=0.01)` and a bias of zero"
    return f"initialize the last layer with small weights, {small}, and remove factors on its outputs"


INITIAL_OFF = Check(
    codes=("loss.initial-off",),
    run=_run,
    quick=False,
    explains="fit.plateau fit.underfit optim.lr-too-low",
)
