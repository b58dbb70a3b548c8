"""`model.vanishing-gradient`, `model.exploding-gradient`: is the gradient of similar strength in all layers?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from striate.account.signal.findings import RANGE
from striate.doctor.checks.check import Check
from striate.doctor.checks.model.squashed_activations import LITTLE, MUCH, squashed
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.step_trace import LayerRecord, StepTrace
from striate.doctor.evidence.trial_variants import with_fresh_weights
from striate.doctor.evidence.units import WEIGHTED
from striate.records import Finding, Remedy
from striate.wording import percent, python_name, several

_LEARNED = 0.3


def _find_gradient_strength(evidence: Evidence) -> Iterator[Finding]:
    """Gradients that differ too much between the first and the last hidden layer, or outputs that grow or fade too
    much, in a network that learns little."""
    trial, own = evidence.trial, evidence.progress
    if own.share > _LEARNED:
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
        elif bounded := squashed(evidence):
            yield _squashed(*bounded)


def _weighted(step_trace: StepTrace) -> list[LayerRecord]:
    """Hidden layers with weights: all except the last one, whose outputs may start as small as they like."""
    return [layer for layer in step_trace.layers if layer.kind in WEIGHTED][:-1]


def _strengths(step_trace: StepTrace) -> list[tuple[str, float]]:
    """Norms of the gradients of hidden layers' outputs, without those that get none, as in a branch that starts at
    zero."""
    return [(layer.name, layer.gradient_norm) for layer in _weighted(step_trace) if layer.gradient_norm]


def _deviation_of_inputs(evidence: Evidence) -> float:
    x = evidence.train.x
    return float(x.float().std(correction=0)) if x is not None else 1.0


def _grown(step_trace: StepTrace, strengths: Sequence[tuple[str, float]], deviation: float) -> tuple[str, str] | None:
    """The place and what was measured, where outputs or gradients explode; else None. `deviation`: of the inputs."""
    scale = max(1.0, deviation) if math.isfinite(deviation) else 1.0
    for layer in _weighted(step_trace):
        if not math.isfinite(layer.std) or layer.std > RANGE * scale:
            return layer.name, f"the outputs of {python_name(layer.name)} have a standard deviation of {layer.std:.2g}"
    if len(strengths) > 1 and not strengths[0][1] <= RANGE * strengths[-1][1]:
        return strengths[0][0], _ratio(strengths)
    return None


def _faded(step_trace: StepTrace, strengths: Sequence[tuple[str, float]]) -> tuple[str, str] | None:
    """The place and what was measured, where gradients or outputs fade; else None."""
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
    gain = ""
    if fresh is not None and fresh.beats(own, 1.3):
        gain = f"; with he-normal weights the loss after {several(fresh.steps, 'step')} is {fresh} instead of {own}"
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
        measured=f"{measured}, in the first step{gain}",
        threshold=f"a factor of {RANGE:g}, if less than {percent(_LEARNED, 0)} of the way from chance to a loss of 0 "
        "is learned",
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
        threshold=f"less than {percent(LITTLE, 0)} of the way from chance to a loss of 0, and more than "
        f"{percent(MUCH, 0)} with ReLU",
        why="Bounded functions pass on only a part of each difference and of the gradient: a sigmoid at most a "
        "quarter, softmax over many units almost nothing.",
        remedy=Remedy(
            "Use `functional.relu(x)` between the layers; softmax and sigmoid belong at the end, in the loss.",
            advice="relu in place of the other activations, in a layer string",
        ),
    )


GRADIENT_STRENGTH = Check(
    codes=("model.vanishing-gradient", "model.exploding-gradient"),
    run=_find_gradient_strength,
    quick=False,
    explains={
        "model.vanishing-gradient": "model.collapsed model.redundant-filters optim.lr-too-low fit.*",
        "model.exploding-gradient": "loss.initial-off loss.not-finite model.collapsed model.saturated "
        "optim.lr-too-high fit.*",
    },
)
