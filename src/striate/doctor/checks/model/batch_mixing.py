"""`model.batch-mixing`: does the answer for a sample depend on the others in its batch?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.asking import apart, asked, question, spread_between, with_rows
from striate.doctor.checks.model.heads import SCORES, last_heads, named
from striate.doctor.evidence.answers import output_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.patient.batch import copied, main_tensor, size_of
from striate.models.untouched import same_random_state, untouched
from striate.records import Finding

CODE = "model.batch-mixing"
MOST = 8
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_SEQUENCE = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer)


def run(evidence: Evidence) -> Iterator[Finding]:
    batch = next((batch for batch in evidence.train.raw if size_of(batch) >= 3), None)
    if batch is None:
        raise NoEvidence("no batch has three samples")
    size = min(size_of(batch), MOST)
    kept = size // 2
    small = with_rows(batch, lambda tensor: tensor[:size])
    others = with_rows(small, lambda tensor: _replaced(tensor, kept))
    (given, one), (changed, other) = question(evidence, small), question(evidence, others)
    if one.shape != other.shape or len(one) != size:
        raise NoEvidence("the network does not give one answer a sample")
    if _blended(given, changed, kept):
        raise NoEvidence("the step blends samples before the network gets them")
    tolerance = _tolerance(evidence)
    far = _apart(one, other, kept)
    if far > tolerance:
        yield _mixes(evidence, small, others, far, tolerance)
        return
    if torch.equal(one, asked(evidence, small, seed=1)):  # random numbers would fall on other samples
        yield from _alone(evidence, small, one, tolerance)
    yield from _across(evidence)


def _tolerance(evidence: Evidence) -> float:
    coarse = any(p.dtype in (torch.float16, torch.bfloat16) for p in evidence.fresh.model.parameters())
    return 5e-2 if coarse else 1e-3


def _replaced(tensor: torch.Tensor, kept: int) -> torch.Tensor:
    """The rows but one replaced by a single other one: in another order, sums would stay the same."""
    rows = [len(tensor) - 1 if kept < len(tensor) - 1 else 0] * len(tensor)
    rows[kept] = kept
    return tensor[rows]


def _blended(given: torch.Tensor | None, changed: torch.Tensor | None, kept: int) -> bool:
    """Whether what the network is given for the kept sample depends on the others: the step mixes, as for mixup."""
    if given is None or changed is None or given.shape != changed.shape or len(given) <= kept:
        return False
    return not torch.equal(given[kept], changed[kept])


def _apart(one: torch.Tensor, other: torch.Tensor, kept: int) -> float:
    """How far the answers for the kept sample are apart, in spreads over all samples."""
    return apart(one[kept] - other[kept], one)


def _alone(evidence: Evidence, batch: Any, one: torch.Tensor, tolerance: float) -> Iterator[Finding]:
    """Half of the batch against the whole: what depends on how many samples there are."""
    half = max(2, len(one) // 2)
    try:
        fewer = asked(evidence, with_rows(batch, lambda tensor: tensor[:half]))
    except NoEvidence:
        return
    if fewer.shape[1:] != one.shape[1:] or len(fewer) != half:
        return
    far = spread_between(one[:half], fewer)
    if far > tolerance:
        yield _finding(
            "error",
            "the network",
            f"the answers for {half} samples differ by {far:.2g} of their spread when {len(one) - half} others "
            "are in the batch",
            tolerance,
            "Look for a division by the size of the batch, or a sum over axis 0.",
        )


def _across(evidence: Evidence) -> Iterator[Finding]:
    """A softmax over the samples where one over the classes was meant."""
    if not evidence.patient.classifies:
        return
    flow = evidence.flow
    size = evidence.train.sizes[0]
    for head in last_heads(flow, SCORES[1:]):
        axis = head.call.option(1, "dim")
        shape = head.outputs.shape
        if axis in (0, -len(shape)) and len(shape) == 2 and shape[0] == size != shape[1] and shape[1] > 1:
            yield _finding(
                "error",
                named(head.call),
                f"{head.call.name} goes over axis 0, the {size} samples, of what has the shape {tuple(shape)}",
                0.0,
                f"`{head.call.name}(x, dim=1)`.",
            )
            return


def _mixes(evidence: Evidence, batch: Any, others: Any, far: float, tolerance: float) -> Finding:
    place = _first_that_mixes(evidence, batch, others, tolerance)
    layer = dict(evidence.fresh.model.named_modules()).get(place)
    severity, fix = "error", "Keep axis 0 apart: `x.flatten(1)`, `x.mean((2, 3))`, `softmax(x, dim=1)`."
    if isinstance(layer, _BATCH_NORM):
        severity = "warning"
        fix = f"Let {place} keep running figures: `track_running_stats=True`; nothing puts it into training mode."
    elif isinstance(layer, _SEQUENCE):
        fix = (
            f"`{type(layer).__name__}(…, batch_first=True)` for {place}: as it is, it takes the samples for a sequence."
        )
    return _finding(
        severity,
        place or "the network",
        f"in evaluation mode, the answer for a sample changes by {far:.2g} of its spread when the other samples "
        f"of the batch are replaced{f'; {place} is the first layer whose output does' if place else ''}",
        tolerance,
        fix,
    )


def _first_that_mixes(evidence: Evidence, batch: Any, others: Any, tolerance: float) -> str:
    """The innermost layer that is the first whose output for the kept sample differs; `` for the network itself."""
    one, other = _outputs_by_layer(evidence, batch), _outputs_by_layer(evidence, others)
    for (name, first), (again, second) in zip(one, other, strict=False):
        if name != again or first.shape != second.shape or first.ndim < 2:
            continue
        if _apart(first, second, len(first) // 2) > tolerance:
            return name
    return ""


def _outputs_by_layer(evidence: Evidence, batch: Any) -> list[tuple[str, torch.Tensor]]:
    double, size = evidence.fresh, size_of(batch)
    found: list[tuple[str, torch.Tensor]] = []
    handles = []
    for name, part in double.model.named_modules():

        def note(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            tensor = main_tensor(output)
            if tensor is not None and tensor.ndim and len(tensor) == size and tensor.is_floating_point():
                found.append((name, tensor.detach().cpu().double()))

        handles.append(part.register_forward_hook(note))
    try:
        with untouched(double.model), same_random_state(), torch.no_grad():
            torch.manual_seed(0)
            output_of(evidence.patient, double, copied(batch), training=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _finding(severity: str, where: str, measured: str, tolerance: float, fix: str) -> Finding:
    return Finding(
        code=CODE,
        severity="error" if severity == "error" else "warning",
        where=where,
        measured=measured,
        threshold=f"{tolerance:g} of the spread: rounding" if tolerance else "never over axis 0",
        why="Samples are mixed up: an answer says something about the company that a sample happens to be in, and "
        "figures measured on batches are not those of single samples.",
        remedy=fix,
    )


CHECK = Check(
    codes=(CODE,),
    question="Does the answer for a sample depend on the others in its batch?",
    threshold="in evaluation mode, a change by 0.001 of the spread of the answers (0.05 with 16 bits) when the "
    "others are replaced or left out: rounding is smaller",
    run=run,
    explains="model.collapsed model.redundant-filters model.vanishing-gradient optim.lr-too-low fit.*",
)
