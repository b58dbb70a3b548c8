"""`loss.ignored-class` and `loss.padding-counted`: do all real targets count in the loss, and no padding?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses, token_inputs
from striate.records import Finding

_FEWEST = 0.005
"""Of the targets: fewer that are ignored cost nothing."""
_PADDED = 0.05
"""Of the positions, from which on the loss is that of the padding to a good part."""


def _ignored(evidence: Evidence) -> Iterator[Finding]:
    for call in _calls(evidence):
        classes = call.input.shape[1] if call.input.ndim > 1 else len(call.input)
        lost = call.target == call.ignored
        share = float(lost.float().mean())
        if not 0 <= call.ignored < classes or share < _FEWEST or _is_padding(evidence, call):
            continue
        yield Finding(
            code="loss.ignored-class",
            severity="warning",
            where="the loss",
            measured=f"ignore_index={call.ignored} leaves out {share:.0%} of the targets, those of class "
            f"{call.ignored}, for which the network has an output of its {classes}",
            threshold=IGNORED_CLASS.threshold,
            why="What belongs to this class is never learned: the network names another one there.",
            remedy="a number that is no class, in the loss and in the data: `nn.CrossEntropyLoss(ignore_index=-100)`",
        )
        return


def _is_padding(evidence: Evidence, call: LossCall) -> bool:
    """Whether what is ignored fills rows of a sequence up, or stands where all inputs are one and the same token."""
    for _, _, tokens in token_inputs(evidence):
        if tokens.numel() != call.target.numel() or torch.equal(tokens.flatten(), call.target.cpu().flatten()):
            continue
        there = tokens.reshape(call.target.shape)[call.target.cpu() == call.ignored]
        if len(there) and len(there.unique()) == 1:
            return True
    rows = _rows(evidence, call)
    return rows is not None and _filled(rows) == call.ignored


def _padding(evidence: Evidence) -> Iterator[Finding]:
    for call in _calls(evidence):
        rows = _rows(evidence, call)
        filler = None if rows is None else _filled(rows)
        if rows is None or filler is None or filler == call.ignored or call.reduction == "none":
            continue
        share = float((rows == filler).float().mean())
        if share < _PADDED:
            continue
        yield Finding(
            code="loss.padding-counted",
            severity="warning",
            where="the loss",
            measured=f"{share:.0%} of the targets are {filler}, which only fills rows up to the longest of the batch, "
            "and they count in the loss",
            threshold=PADDING_COUNTED.threshold,
            why="Padding is predicted perfectly soon: loss and accuracy look better than they are, and weigh the other "
            "positions less, the more so the shorter a sequence.",
            remedy=f"`nn.CrossEntropyLoss(ignore_index={filler})`, and count no padding in the accuracy: "
            f"`known = targets != {filler}`",
        )
        return


def _calls(evidence: Evidence) -> list[LossCall]:
    found = list(class_losses(evidence))
    if not found:
        raise NoEvidence("the step calls no cross entropy of class numbers")
    return found


def _rows(evidence: Evidence, call: LossCall) -> torch.Tensor | None:
    """The targets as (samples, positions); None where they are no sequences."""
    target = call.target.detach().cpu()
    if target.ndim == 2:
        return target
    for _, _, tokens in token_inputs(evidence):
        for shape in (tokens.shape, (len(tokens), tokens.shape[1] - 1)):
            if target.ndim == 1 and len(target) == shape[0] * shape[1]:
                return target.reshape(shape)
    return None


def _filled(rows: torch.Tensor) -> int | None:
    """The number that fills rows up at their ends, to different lengths, and stands nowhere else; None where none."""
    for turned in (rows, rows.T):
        filler = int(turned[:, -1].mode().values)
        same = turned == filler
        run = same.flip(1).long().cumprod(1).sum(1)
        whole = bool((run == same.sum(1)).all())
        if whole and len(run.unique()) > 1 and int(run.max()) > 1 and bool((run < turned.shape[1]).any()):
            return filler
    return None


IGNORED_CLASS = Check(
    codes=("loss.ignored-class",),
    question="Does the loss leave out a class that the network is to name?",
    threshold=f"ignore_index is the number of an output and of {_FEWEST:.1%} of the targets, which are no padding",
    run=_ignored,
    explains="loss.padding-counted model.redundant-filters fit.* data.imbalance data.missing-class",
)
PADDING_COUNTED = Check(
    codes=("loss.padding-counted",),
    question="Do targets that only fill rows up count in the loss?",
    threshold=f"{_PADDED:.0%} of the targets are one number at the ends of rows, to different lengths and nowhere "
    "else, and are not ignored",
    run=_padding,
    explains="data.imbalance",
)
