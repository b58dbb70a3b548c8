"""Gradients at the start: `model.vanishing-gradient`, `model.exploding-gradient` and `model.symmetric-init`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import written
from striate.doctor.checks.model.squashed_activations import LITTLE, MUCH, squashed
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.step_trace import LayerView, StepTrace
from striate.doctor.evidence.trial_variants import with_fresh_weights
from striate.doctor.evidence.units import WEIGHTED, hidden
from striate.records import Finding, Remedy
from striate.wording import listed_names, python_name, several

RANGE = 1000.0
"""Layers whose gradients differ by more than this factor need learning rates that differ as much: no single one fits.
Healthy networks of twenty layers stay within thirty."""
LEARNED = 0.3


def _find_gradient_strength(evidence: Evidence) -> Iterator[Finding]:
    """Gradients of first and last hidden layers, and the strength of signals, where little is learned."""
    trial, own = evidence.trial, evidence.progress
    if own.share > LEARNED:
        return
    first = _strengths(trial.first)
    later = _strengths(trial.later)
    grown = _grown(trial.first, first, _deviation_of_inputs(evidence))
    if grown:
        yield _finding(evidence, "exploding", *grown)
    else:
        now, after = _faded(trial.first, first), _faded(trial.later, later)
        lost = now if now and (after or not later) else (after if not first else None)
        if lost:
            yield _finding(evidence, "vanishing", *lost)
        elif flattened := squashed(evidence):
            yield _squashed(*flattened)


def _weighted(step_trace: StepTrace) -> list[LayerView]:
    """Hidden layers with weights: all but the last, whose outputs may begin as small as they like."""
    return [layer for layer in step_trace.layers if layer.kind in WEIGHTED][:-1]


def _strengths(step_trace: StepTrace) -> list[tuple[str, float]]:
    """Norms of the gradient of hidden layers' outputs, but for those that get none: a branch that begins at zero."""
    return [(layer.name, layer.gradient_norm) for layer in _weighted(step_trace) if layer.gradient_norm]


def _deviation_of_inputs(evidence: Evidence) -> float:
    x = evidence.train.x
    return float(x.float().std(correction=0)) if x is not None else 1.0


def _grown(step_trace: StepTrace, strengths: Sequence[tuple[str, float]], deviation: float) -> tuple[str, str] | None:
    """Where, and what was measured; None where nothing explodes."""
    given = max(1.0, deviation) if math.isfinite(deviation) else 1.0
    for layer in _weighted(step_trace):
        if not math.isfinite(layer.std) or layer.std > RANGE * given:
            return layer.name, f"the outputs of {python_name(layer.name)} have a standard deviation of {layer.std:.2g}"
    if len(strengths) > 1 and not strengths[0][1] <= RANGE * strengths[-1][1]:
        return strengths[0][0], _ratio(strengths)
    return None


def _faded(step_trace: StepTrace, strengths: Sequence[tuple[str, float]]) -> tuple[str, str] | None:
    hidden = _weighted(step_trace)
    begins = max((layer.std for layer in hidden[:1]), default=0.0)
    if len(strengths) > 1 and strengths[0][1] < strengths[-1][1] / RANGE:
        return strengths[0][0], _ratio(strengths)
    for layer in hidden[1:]:
        if strengths and 0 < layer.std < begins / RANGE:
            return (
                layer.name,
                f"the outputs of {python_name(layer.name)} have a standard deviation of {layer.std:.2g}, those of the "
                f"first layer {begins:.2g}",
            )
    return None


def _ratio(strengths: Sequence[tuple[str, float]]) -> str:
    (name, first), (last, other) = strengths[0], strengths[-1]
    ratio = first / other if other else math.inf
    return f"the gradient of {python_name(name)} has {ratio:.2g} times the norm of that of {python_name(last)}"


def _finding(evidence: Evidence, what: str, where: str, measured: str) -> Finding:
    own = evidence.progress
    fresh = with_fresh_weights(evidence, "he")
    tried = ""
    if fresh is not None and fresh.beats(own, 1.3):
        tried = f"; with he-normal weights the loss after {several(fresh.steps, 'step')} is {fresh} instead of {own}"
    known = _strengths(evidence.trial.first) or _strengths(evidence.trial.later)
    code = f"model.{what}-gradient"
    evidence.pictures[code] = Picture(
        "bars",
        "Gradient by layer, logarithm of its norm",
        {"log10": tuple(math.log10(norm) if 0 < norm < math.inf else 0.0 for _, norm in known)},
        tuple(name for name, _ in known),
    )
    return Finding(
        code=code,
        severity="error",
        where=where,
        measured=f"{measured}, in the first step{tried}",
        threshold=f"a factor of {RANGE:g}, if less than {LEARNED:.0%} of the way from chance to a loss of 0 is learned",
        why="No single learning rate fits such different layers: the weakest hardly learn, or the strongest diverge."
        if what == "vanishing"
        else "A step that suits one layer is far too large for another.",
        remedy=Remedy(
            "Start with `nn.init.kaiming_normal_(layer.weight)` (tanh: `xavier_normal_`), put normalization "
            "(`nn.BatchNorm2d`) between the layers, use ReLU instead of sigmoid, or add residual connections.",
            settings={"model.init": "auto"},
            advice="bn, relu instead of tanh, or res[ … ] in a layer string",
        ),
    )


def _squashed(where: str, measured: str) -> Finding:
    return Finding(
        code="model.vanishing-gradient",
        severity="error",
        where=where,
        measured=measured,
        threshold=f"less than {LITTLE:.0%} of the way from chance to a loss of 0, and more than {MUCH:.0%} with ReLU",
        why="Bounded functions pass on only a part of each difference and of the gradient: a sigmoid at most a "
        "quarter, softmax over many units almost nothing.",
        remedy=Remedy(
            "Use `functional.relu(x)` between the layers; softmax and sigmoid belong at the end, in the loss.",
            advice="relu in place of the other activations, in a layer string",
        ),
    )


GRADIENT_STRENGTH = Check(
    codes=("model.vanishing-gradient", "model.exploding-gradient"),
    question="Is the gradient of similar strength in all layers?",
    run=_find_gradient_strength,
    quick=False,
    explains={
        "model.vanishing-gradient": "model.collapsed model.redundant-filters optim.lr-too-low fit.*",
        "model.exploding-gradient": "loss.initial-off loss.not-finite model.collapsed model.saturated "
        "optim.lr-too-high fit.*",
    },
)


ALIKE = 1e-4
"""Largest difference between units, as a share of the largest weight: rounding makes a thousandth of that."""
FEWEST_STEPS, FEWEST_UNITS, FEWEST_OF_CONSTANT = 5, 2, 4
WORTH = 1.3


def _find_symmetric_init(evidence: Evidence) -> Iterator[Finding]:
    """Weights of which all units are the same before the trial, and after it."""
    trial = evidence.trial
    if len(trial.rows) < FEWEST_STEPS:
        raise NoEvidence(f"fewer than {FEWEST_STEPS} training steps could be made")
    ended = dict(trial.replica.model.named_parameters())
    bad = []
    for name, original in trial.replica.originals.items():
        gradient = trial.first.gradients.get(name)
        if original.ndim < 2 or not original.requires_grad or gradient is None or name not in ended:
            continue
        now = ended[name].detach()
        if not bool(torch.isfinite(now).all()) or (gradient > 0 and torch.equal(now, original)):
            continue  # what could move and was never moved tells nothing
        if any(_alike(original.detach(), axis) and _alike(now, axis) for axis in range(min(2, original.ndim))):
            bad.append(name)
    if not bad:
        yield from _slow_to_part(evidence)
        return
    weights = trial.replica.originals[bad[0]].detach()
    drawn = "; ".join(f"nn.init.kaiming_normal_({written(name, 'model')})" for name in bad)
    yield Finding(
        code="model.symmetric-init",
        severity="error",
        where=listed_names(bad),
        measured=f"all {several(weights.shape[0], 'unit')} of {bad[0]} start with the same weights (from "
        f"{float(weights.min()):.3g} to {float(weights.max()):.3g}), and after {several(len(trial.rows), 'step')} they "
        "are still the same",
        threshold=f"a difference below {ALIKE:g} of the largest weight, before the trial and after it",
        why="Units that start alike get the same gradient and stay alike: the layer is worth a single unit.",
        remedy=Remedy(
            f"Initialize the weights at random: `{drawn}`; only biases, scales and the last layer of a branch may "
            "start at zero.",
            settings={"model.init": "auto"},
        ),
    )


def _slow_to_part(evidence: Evidence) -> Iterator[Finding]:
    """Hidden layers of one constant, which random layers behind them, or dropout, drive apart: it costs time."""
    layers = [layer for layer, _ in hidden(evidence.trial) if layer.kind in WEIGHTED and layer.weight is not None]
    nothing = all(layer.weight is not None and not bool(layer.weight.any()) for layer in layers)
    bad = [
        layer.name
        for layer in layers
        if layer.weight is not None
        and min(layer.weight.shape) >= FEWEST_OF_CONSTANT
        and (nothing or bool(layer.weight.any()))  # a branch may begin at zero
        and _alike(layer.weight, 0)
    ]
    fresh = with_fresh_weights(evidence, "he") if bad else None
    if fresh is None or not fresh.beats(evidence.progress, WORTH):
        return
    yield Finding(
        code="model.symmetric-init",
        severity="warning",
        where=listed_names(bad),
        measured=f"all units of {bad[0]} start with the same weights; with he-normal weights the loss after "
        f"{several(fresh.steps, 'step')} is {fresh} instead of {evidence.progress}",
        threshold=f"the same weights in all units, and a loss {WORTH:g} times lower with random weights",
        why="Units that start alike can become different only through later layers, and stay similar for long.",
        remedy=Remedy(
            f"Initialize the weights at random: `nn.init.kaiming_normal_({written(bad[0], 'model')}.weight)`.",
            settings={"model.init": "auto"},
        ),
    )


def _alike(weight: torch.Tensor, axis: int) -> bool:
    if weight.shape[axis] < FEWEST_UNITS or weight.numel() == weight.shape[axis]:
        return False
    if axis == 1 and weight.ndim > 2:
        return False
    rows = weight.transpose(0, axis).flatten(1).double()
    return float((rows - rows[:1]).abs().max()) <= ALIKE * float(rows.abs().max())


SYMMETRIC_INIT = Check(
    codes=("model.symmetric-init",),
    question="Do all units of a layer start alike and stay alike?",
    run=_find_symmetric_init,
    explains=(
        "loss.pairs-swapped model.collapsed model.dead-units model.redundant-filters model.vanishing-gradient "
        "optim.lr-too-low fit.*"
    ),
)
