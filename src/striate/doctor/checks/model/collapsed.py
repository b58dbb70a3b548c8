"""`model.collapsed`: do the predictions depend on the input?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.substituted_outputs import step_outputs
from striate.doctor.setup.batch import size_of
from striate.records import Finding
from striate.wording import several

_SAME = 1e-4
"""Standard deviation of the outputs over samples, as a share of their mean absolute value."""
_FEWEST = 4
_ONE_POINT = 0.01
"""Ratio of the standard deviations of embeddings after and before the trial."""
_LITTLE = 0.1


def _find_collapsed(evidence: Evidence) -> Iterator[Finding]:
    """Outputs that are constant after the trial; at first they may be, since a last layer may start with zeros."""
    trial = evidence.trial
    known = [evidence.after.outputs]
    if isinstance(trial.later.outputs, torch.Tensor):
        known.append(trial.later.outputs)
    if not trial.rows or any(size_of(outputs) < _FEWEST for outputs in known) or _inputs_are_equal(evidence):
        return
    deviations = [_deviation(outputs) for outputs in known]
    begins = _deviation(evidence.start.outputs)
    ends = deviations[0]
    one_point = _embeds(evidence) and ends is not None and bool(begins) and ends < _ONE_POINT * (begins or 0.0)
    if not one_point and not all(deviation is not None and deviation < _SAME for deviation in deviations):
        return
    if not one_point and begins is not None and begins >= _SAME and evidence.progress.share > _LITTLE:
        return
    if not one_point and _is_weight_of_one(evidence):
        return
    outputs = evidence.after.outputs.flatten(1) if evidence.after.outputs.ndim > 1 else evidence.after.outputs[:, None]
    prediction = ", ".join(f"{float(value):.3g}" for value in outputs[0, :4])
    dots = ", …" if outputs.shape[1] > 4 else ""
    always = begins is not None and begins < _SAME
    yield Finding(
        code="model.collapsed",
        severity="error" if always or one_point else "warning",
        where="the network's outputs",
        measured=f"for {several(len(outputs), 'different input')} all outputs are ({prediction}{dots}) within "
        f"{max(s or 0 for s in deviations):.1g} of their size after {several(len(trial.rows), 'step')}"
        f"{', as before the first step' if always else '; before the first step they differ'}",
        threshold=f"a standard deviation over samples below {_SAME:g} of the outputs' size",
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
    """Whether the outputs are embeddings of samples with class numbers, rather than scores of the classes."""
    y = evidence.train.y
    classes = y is not None and y.ndim == 1 and not y.is_floating_point()
    return classes and evidence.after.outputs.ndim == 2 and not predicts_targets(evidence)


def _deviation(outputs: torch.Tensor) -> float | None:
    """The standard deviation of outputs over samples, as a share of their mean absolute value; 0 if all are zero, None
    if some are not finite."""
    values = outputs.double().reshape(len(outputs), -1)
    if not bool(torch.isfinite(values).all()):
        return None
    size = float(values.abs().mean())
    return float(values.std(0, correction=0).mean()) / size if size else 0.0


def _is_weight_of_one(evidence: Evidence) -> bool:
    """Whether the first of several outputs is the logarithm of 1 for all inputs, as the weight of the only component of
    a mixture."""
    outputs = evidence.after.outputs
    if outputs.numel() != len(outputs) or bool(outputs.any()):
        return False
    with suppress(NoEvidence):
        return len(step_outputs(evidence)) > 1
    return False


def _inputs_are_equal(evidence: Evidence) -> bool:
    x = evidence.train.x
    return x is not None and len(x) > 1 and bool((x == x[:1]).all())


COLLAPSED = Check(
    codes=("model.collapsed",),
    run=_find_collapsed,
    explains="loss.ignored-class model.redundant-filters optim.lr-too-low fit.*",
)
