"""`model.dropout-too-high`: does dropout leave too little to learn from?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import SCORES, call_text, last_heads
from striate.doctor.checks.model.variants import try_change
from striate.doctor.evidence.call_graph import REGRESSION, SAME_NUMBERS, Call, CallGraph, Head
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Trial
from striate.doctor.evidence.trial_variants import replaced
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import argument, called, is_operation, last_name
from striate.records import Finding, Remedy
from striate.wording import percent, several

CODE = "model.dropout-too-high"
LIKELY, CERTAIN = 0.75, 0.9
"""Dropped shares: from LIKELY on a trial decides, from CERTAIN on there is a warning at least; 0.5 is usual."""
MILD = 0.2
_LOSSES = (*SCORES, *REGRESSION, "binary_cross_entropy", "binary_cross_entropy_with_logits")
BETTER = 1.25
_DROPOUTS = (
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "feature_dropout",
)


def run(evidence: Evidence) -> Iterator[Finding]:
    outputs = _of_outputs(evidence)
    if outputs is not None:
        yield outputs
        return
    strong = [call for call in evidence.graph.calls if _dropped(call) >= LIKELY]
    if not strong:
        return
    worst = max(strong, key=_dropped)
    share = _dropped(worst)
    gain = _gain(evidence, tuple(strong))
    better = gain is not None and gain[0]
    kept = "" if evidence.setup.source is None else _share_kept(evidence.setup.source)
    if not better and not kept and (share < CERTAIN or (gain is not None and share < 1)):
        return
    least = f"{MILD:g} gives a loss {BETTER:g} times smaller"
    yield Finding(
        code=CODE,
        severity="error" if share >= CERTAIN and better else "warning",
        where=call_text(worst),
        measured=f"{percent(share, 0)} of the values are dropped in training{kept and f', by `{kept}`'}"
        f"{gain[1] if gain else ''}",
        threshold=f"dropout of {LIKELY:g} or more, if {'a name says that it is the share to keep' if kept else least}; "
        "0.5 is usual",
        why="The p of dropout is the share that is dropped, not the share that is kept. The rest is too little and too "
        "noisy: training is slow or stops.",
        remedy=Remedy(
            f"`nn.Dropout({min(0.5, round(1 - share, 2)) or 0.5:g})` for {worst.place}.",
            advice="dropout(0.5) or less in the layer string",
        ),
    )


def _of_outputs(evidence: Evidence) -> Finding | None:
    """The finding for dropout right before the loss."""
    for head in last_heads(evidence.graph, _LOSSES):
        call = _dropout_before(evidence.graph, head)
        if call is not None:
            return Finding(
                code=CODE,
                severity="error",
                where=call_text(call),
                measured=f"dropout sets {percent(_dropped(call), 0)} of the outputs that `{head.call.name}` gets to "
                "zero in training",
                threshold="dropout between the last layer and the loss",
                why="A dropped output says nothing about the sample, whatever the network has learned; the others are "
                "scaled up.",
                remedy="Apply dropout before the last layer, not after it.",
            )
    return None


def _dropout_before(graph: CallGraph, head: Head) -> Call | None:
    """The dropout between a loss and the call that computed its input; None where there is none."""
    index = head.call.inputs[0] if head.call.inputs else -1
    while index >= 0:
        call = graph.calls[index]
        if _dropped(call) > 0:
            return call
        index = call.inputs[0] if call.name in SAME_NUMBERS and call.inputs else -1
    return None


def _dropped(call: Call) -> float:
    """The share of values that a call drops; 0 for other calls, and in evaluation mode."""
    if call.name not in _DROPOUTS:
        return 0.0
    share = call.option(1, "p", 0.5)
    default = call.name not in ("alpha_dropout", "feature_alpha_dropout")
    on = call.option(2, "training", call.options.get("train", default))
    return float(share) if on and isinstance(share, int | float) else 0.0


def _share_kept(source: ScriptSource) -> str:
    """The call of a dropout whose argument is named as the share to keep, such as `nn.Dropout(1 - dropout)`; else
    empty."""
    for node in source.nodes(ast.Call):
        name = called(node)
        if name not in _DROPOUTS and not ("Dropout" in name and hasattr(nn, name)):
            continue
        p = argument(node, int(name in _DROPOUTS), "p")
        rest = p if is_operation(p, ast.Sub) else None
        kept = rest is not None and ast.unparse(rest.left) in ("1", "1.0") and "drop" in last_name(rest.right).lower()
        if kept or (p is not None and "keep" in last_name(p).lower()):
            return ast.unparse(node)
    return ""


def _mild(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if "p" in kwargs or len(args) < 2:
        return func(*args, **(kwargs | {"p": MILD}))
    return func(args[0], MILD, *args[2:], **kwargs)


def _gain(evidence: Evidence, calls: tuple[Call, ...]) -> tuple[bool, str] | None:
    """Whether training with mild dropout leads to a lower loss in evaluation mode, and what was measured; None where it
    cannot be tried."""
    change = replaced(calls, _mild)
    if any(_dropped(call) >= LIKELY for call in evidence.prediction_graph.calls):  # dropout that is never off
        remedy = try_change(evidence, "mild dropout", change, BETTER)
        return None if remedy is None else (remedy.better, f"; with {MILD:g} instead, {remedy.text}")
    try:
        trial = evidence.variant("model mild dropout", change)
        own, other = _losses(evidence, evidence.trial), _losses(evidence, trial)
    except NoEvidence:
        return None
    if own is None or other is None:
        return None
    steps = len(trial.rows)
    text = (
        f"; with {MILD:g} instead, the loss in evaluation mode after {several(steps, 'step')} is {other:.3g} "
        f"instead of {own:.3g}"
    )
    return other * BETTER < own, text


def _losses(evidence: Evidence, trial: Trial) -> float | None:
    predictions = evidence.after if trial is evidence.trial else evidence.predictions_of(trial, evidence.train.raw[:16])
    return predictions.loss if predictions.loss == predictions.loss else None


DROPOUT_TOO_HIGH = Check(
    codes=(CODE,),
    run=run,
    explains="data.labels-random data.label-noise model.collapsed model.dead-units model.vanishing-gradient "
    "optim.lr-too-high optim.lr-too-low fit.*",
)
