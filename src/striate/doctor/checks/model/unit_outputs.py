"""What units put out: `model.saturated`, `model.dead-units`, `model.collapsed` and `model.redundant-filters`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.answering import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.step_trace import LayerView
from striate.doctor.evidence.trial_variants import with_fresh_weights
from striate.doctor.evidence.units import WEIGHTED, copied_share, flat_share, hidden
from striate.doctor.setup.batch import size_of
from striate.records import Finding, Remedy
from striate.wording import listed_names, python_name, several

RANGES = {
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
}
NEAR = 0.015
"""Share of the range from either limit: tanh beyond 0.97, sigmoid beyond 0.03 and 0.97 in turn, have a slope below a
sixteenth of the steepest."""
SATURATED_MOST = 0.5
"""Share of outputs: where more than half are saturated, a gradient loses most of its strength in one layer."""
SATURATED_LEARNED, SATURATED_LITTLE = 0.5, 0.15
WORTH = 1.15
"""Trials differ by some percent by chance."""


def _find_saturated(evidence: Evidence) -> Iterator[Finding]:
    """Layers most of whose outputs are at a limit, at the start and at a later step."""
    known = []
    for first, later in hidden(evidence.trial):
        share = _saturated(first)
        after = _saturated(later) if later is not None else share
        if share is not None and after is not None:
            known.append((first.name, min(share, after)))
    bad = [(name, share) for name, share in known if share > SATURATED_MOST]
    if not bad:
        return
    own = evidence.progress
    fresh = with_fresh_weights(evidence, "glorot")
    helps = fresh is not None and fresh.beats(own, WORTH)
    if own.share > SATURATED_LEARNED and not helps:
        return
    name, share = max(bad, key=lambda item: item[1])
    tried = (
        f"; with glorot-normal weights and biases of zero the loss after {several(fresh.steps, 'step')} is {fresh} "
        f"instead of {own}"
        if fresh is not None and helps
        else ""
    )
    yield Finding(
        code="model.saturated",
        severity="error" if own.share < SATURATED_LITTLE else "warning",
        where=listed_names([name for name, _ in bad]),
        measured=f"{share:.0%} of the outputs of {python_name(name)} are at a limit, before the first step and "
        f"later{tried}",
        threshold=f"{SATURATED_MOST:.0%} of the outputs within {NEAR:.1%} of the range from a limit",
        why="At a limit the slope is nearly zero, so the layers before get almost no gradient.",
        remedy=Remedy(
            "Start with `nn.init.xavier_normal_(layer.weight)`, standardize the inputs, or put `nn.BatchNorm2d` "
            "(`nn.BatchNorm1d` after linear layers) before the activation.",
            settings={"model.init": "auto"},
            advice="bn before the activation, in a layer string",
        ),
    )
    evidence.pictures["model.saturated"] = Picture(
        "bars", "Share of outputs at a limit", {"saturated": tuple(s for _, s in known)}, tuple(n for n, _ in known)
    )


def _saturated(layer: LayerView) -> float | None:
    if layer.kind not in RANGES or layer.output is None or layer.output.numel() < 32:
        return None
    low, high = RANGES[layer.kind]
    middle, reach = (low + high) / 2, (high - low) / 2
    return float(((layer.output - middle).abs() > (1 - 2 * NEAR) * reach).to(torch.float32).mean())


SATURATED = Check(
    codes=("model.saturated",),
    question="Are most outputs of bounded activations at their limits?",
    run=_find_saturated,
    quick=False,
    explains="loss.initial-off model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*",
)


KINDS = ("relu", "relu6")
DEAD_UNITS_MOST = 0.75
"""Share of a layer's units. Deep below many ReLU layers all samples look alike, and about half of the units are off for
all of them at a healthy start; three quarters are not by chance."""
DEAD_UNITS_FEWEST_UNITS, FEWEST_SAMPLES = 4, 8
DEAD_UNITS_LEARNED, DEAD_UNITS_LITTLE = 0.6, 0.15


def _find_dead_units(evidence: Evidence) -> Iterator[Finding]:
    """Layers most of whose units are zero for all samples, at the start and at a later step."""
    trial = evidence.trial
    shares = [
        (first.name, _dead(first), _dead(later) if later is not None else None)
        for first, later in hidden(trial)
        if first.kind in KINDS
    ]
    known = [(name, share, share if later is None else later) for name, share, later in shares if share is not None]
    bad = [(name, min(share, later)) for name, share, later in known if min(share, later) >= DEAD_UNITS_MOST]
    if not bad:
        return
    own = evidence.progress
    fresh = with_fresh_weights(evidence, "he")
    helps = fresh is not None and fresh.beats(own, 1.3)
    severity = (
        "error" if own.share < DEAD_UNITS_LITTLE else ("warning" if helps or own.share < DEAD_UNITS_LEARNED else "note")
    )
    name, share = max(bad, key=lambda item: item[1])
    tried = (
        (
            f"; with he-normal weights and biases of zero the loss after {several(fresh.steps, 'step')} is {fresh} "
            f"instead of {own}"
        )
        if fresh is not None and helps
        else ""
    )
    yield Finding(
        code="model.dead-units",
        severity=severity,  # type: ignore[arg-type]
        where=listed_names([name for name, _ in bad]),
        measured=f"{share:.0%} of the units of {python_name(name)} are zero for every sample, before the first step "
        f"and later{tried}",
        threshold=f"{DEAD_UNITS_MOST:.0%} of a layer's units",
        why="A unit that is always off passes nothing on, gets no gradient, and never learns.",
        remedy=Remedy(
            "Start with `nn.init.kaiming_normal_(layer.weight)` and `nn.init.zeros_(layer.bias)`, and subtract "
            "nothing before the ReLU; `nn.LeakyReLU(0.1)` keeps a slope where units are off.",
            settings={"model.init": "auto"},
            advice="leaky(0.1) instead of relu in a layer string",
        ),
    )
    evidence.pictures["model.dead-units"] = Picture(
        "bars", "Share of units that are off", {"dead": tuple(s for _, s, _ in known)}, tuple(n for n, _, _ in known)
    )


def _dead(layer: LayerView) -> float | None:
    units = layer.units
    if units is None or len(units) < DEAD_UNITS_FEWEST_UNITS or units.shape[1] < FEWEST_SAMPLES:
        return None
    return float((units <= 0).all(1).float().mean())


DEAD_UNITS = Check(
    codes=("model.dead-units",),
    question="Are most units of a layer off, whatever the input?",
    run=_find_dead_units,
    quick=False,
    explains=(
        "model.collapsed model.redundant-filters model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
)


SAME = 1e-4
"""Spread of the outputs over samples, as a share of their size."""
FEWEST = 4
ONE_POINT = 0.01
"""Of what embeddings differed by before the trial."""
COLLAPSED_LITTLE = 0.1


def _find_collapsed(evidence: Evidence) -> Iterator[Finding]:
    """Outputs that are constant after the trial; of a network that has learned nothing, a last layer of zeros is no
    fault."""
    trial = evidence.trial
    seen = [evidence.after.outputs]
    if isinstance(trial.later.outputs, torch.Tensor):
        seen.append(trial.later.outputs)
    if not trial.rows or any(size_of(outputs) < FEWEST for outputs in seen) or _inputs_are_one(evidence):
        return
    deviations = [_deviation(outputs) for outputs in seen]
    begins = _deviation(evidence.start.outputs)
    left = deviations[0]
    one_point = _embeds(evidence) and left is not None and bool(begins) and left < ONE_POINT * (begins or 0.0)
    if not one_point and not all(deviation is not None and deviation < SAME for deviation in deviations):
        return
    if not one_point and begins is not None and begins >= SAME and evidence.progress.share > COLLAPSED_LITTLE:
        return
    outputs = evidence.after.outputs.flatten(1) if evidence.after.outputs.ndim > 1 else evidence.after.outputs[:, None]
    prediction = ", ".join(f"{float(value):.3g}" for value in outputs[0, :4])
    dots = ", …" if outputs.shape[1] > 4 else ""
    always = begins is not None and begins < SAME
    yield Finding(
        code="model.collapsed",
        severity="error" if always or one_point else "warning",
        where="the network's outputs",
        measured=f"for {several(len(outputs), 'different input')} all outputs are ({prediction}{dots}) within "
        f"{max(s or 0 for s in deviations):.1g} of their size after {several(len(trial.rows), 'step')}"
        f"{', as before the first step' if always else '; before the first step they differ'}",
        threshold=f"a standard deviation over samples below {SAME:g} of the outputs' size",
        why="The information about the inputs is lost in the network: only a constant can be learned.",
        remedy="Print `h.flatten(1).std(0).mean()` after each layer for one batch. Where it falls to 0, look for a "
        "normalization over an axis of length 1, a multiplication by zero, or a softmax of one output."
        + (
            " Embeddings collapse if steps are too large, or if the loss pushes none apart: try a tenth of the "
            "learning rate."
            if one_point
            else ""
        ),
    )


def _embeds(evidence: Evidence) -> bool:
    """Whether the outputs are embeddings of samples that have class numbers, not scores of classes."""
    y = evidence.train.y
    classes = y is not None and y.ndim == 1 and not y.is_floating_point()
    return classes and evidence.after.outputs.ndim == 2 and not predicts_targets(evidence)


def _deviation(outputs: torch.Tensor) -> float | None:
    """Over samples, as a share of the outputs' size; 0 of zeros, None where they are not finite."""
    values = outputs.double().reshape(len(outputs), -1)
    if not bool(torch.isfinite(values).all()):
        return None
    size = float(values.abs().mean())
    return float(values.std(0, correction=0).mean()) / size if size else 0.0


def _inputs_are_one(evidence: Evidence) -> bool:
    x = evidence.train.x
    return x is not None and len(x) > 1 and bool((x == x[:1]).all())


COLLAPSED = Check(
    codes=("model.collapsed",),
    question="Do the predictions depend on the input?",
    run=_find_collapsed,
    explains="loss.ignored-class model.redundant-filters optim.lr-too-low fit.*",
)


REDUNDANT_FILTERS_MOST = 0.5
"""Share of a layer's filters: so many weights are spent on nothing."""
COSINE = 0.99
"""Of two filters. Random ones of four weights or more never come so near, learned ones hardly ever."""
STILL = 0.9
FLAT = 1e-3
"""Standard deviation of a feature map as a share of the layer's largest."""
REDUNDANT_FILTERS_FEWEST_UNITS, FEWEST_WEIGHTS = 6, 4


def _find_redundant_filters(evidence: Evidence) -> Iterator[Finding]:
    """Layers of which most filters are copies, or their maps the same everywhere, at the start and later."""
    known = []
    modules = dict(evidence.setup.model.named_modules())
    for first, later in hidden(evidence.trial):
        if first.kind not in WEIGHTED or first.units is None or len(first.units) < REDUNDANT_FILTERS_FEWEST_UNITS:
            continue
        if isinstance(modules.get(first.name), nn.Embedding):  # rows that are looked up are no filters
            continue
        copies, flat = _copies(first, COSINE), _flat(first)
        if later is not None:
            copies = min(copies, _copies(later, STILL))
            still = _flat(later)
            # Of a branch that begins at zero all maps are flat at first, and those that a mask leaves out later, too.
            flat = still - _unused(later) if flat == 1 and still < 1 else flat
        known.append((first.name, copies, flat))
    bad = [(name, copies, flat) for name, copies, flat in known if copies + flat >= REDUNDANT_FILTERS_MOST]
    if not bad:
        return
    name, copies, flat = max(bad, key=lambda item: item[1] + item[2])
    yield Finding(
        code="model.redundant-filters",
        severity="warning",
        where=listed_names([place for place, _, _ in bad]),
        measured=f"{copies:.0%} of the filters of {python_name(name)} are copies of others (cosine above {COSINE:g}), "
        f"{flat:.0%} of its feature maps are the same everywhere for every sample",
        threshold=f"{REDUNDANT_FILTERS_MOST:.0%} of a layer's filters",
        why="Features are most useful if they are uncorrelated and vary much. A copy adds no information.",
        remedy="Initialize each filter at random: `nn.init.kaiming_normal_(layer.weight)`; if filters were pruned, "
        "make the layer narrower.",
    )
    evidence.pictures["model.redundant-filters"] = Picture(
        "bars",
        "Share of filters that are copies or flat",
        {"share": tuple(copies + flat for _, copies, flat in known)},
        tuple(place for place, _, _ in known),
    )


def _copies(layer: LayerView, cosine: float) -> float:
    if layer.weight is None or layer.weight.shape[1] < FEWEST_WEIGHTS:
        return 0.0
    return copied_share(layer.weight, cosine)


def _flat(layer: LayerView) -> float:
    output = layer.output
    pooled = output is not None and output.ndim > 2 and output[0, 0].numel() == 1
    if layer.units is None or layer.units.shape[1] < 2 or pooled:  # means over maps differ little, as of a gate
        return 0.0
    return flat_share(layer.units, FLAT)


def _unused(layer: LayerView) -> float:
    """The share of rows of weights that are zero."""
    return 0.0 if layer.weight is None else float((layer.weight == 0).flatten(1).all(1).double().mean())


REDUNDANT_FILTERS = Check(
    codes=("model.redundant-filters",),
    question="Do features differ from each other, and do they vary?",
    run=_find_redundant_filters,
    explains="fit.*",
)
