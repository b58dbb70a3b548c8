"""`loss.ignored-class`: do all real targets count in the loss?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.counted.sentence_ends import name_of_end
from striate.doctor.checks.loss.task.alignments import blank_as_class
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.padding import padding_value, target_rows
from striate.doctor.evidence.token_targets import class_losses, next_token_targets, token_inputs
from striate.doctor.setup.batch import leaf, main_tensor
from striate.records import Finding
from striate.wording import percent, several

_FEWEST = 0.005
"""Share of the targets below which ignored ones do no harm."""
_SHIFTED = 0.9
_LEAST, _COUNTED, _MOST_CLASSES = 20, 0.5, 64
"""Fewest targets of an ignored class, least share of the other targets that count, and most classes: below or above,
a class may lack gradients by chance."""


def _ignored(evidence: Evidence) -> Iterator[Finding]:
    blank = blank_as_class(evidence)
    if blank is not None:
        yield _finding(
            f"{percent(blank[0], 0)} of the targets of ctc_loss are {blank[1]}, which is its blank: no output predicts "
            "them",
            "number the classes from 1 if the blank is 0, or use `nn.CTCLoss(blank=K)` with one more output",
            "targets that are the blank of ctc_loss",
        )
        return
    for call in class_losses(evidence):
        classes = call.input.shape[1] if call.input.ndim > 1 else len(call.input)
        share = float((_targets(evidence, call) == call.ignored).float().mean())
        if not 0 <= call.ignored < classes or share < _FEWEST:
            continue
        end = name_of_end(evidence, call.target.cpu(), call.ignored)
        if end:
            yield _of_end(f"ignore_index={call.ignored} leaves out", end, call.ignored)
            return
        if _is_padding(evidence, call.target.cpu(), call.ignored):
            continue
        yield _finding(
            f"ignore_index={call.ignored} leaves out {percent(share, 0)} of the targets, those of class "
            f"{call.ignored}, but one of the network's {classes} outputs is for this class",
            "use a number that is not a class, in the loss and in the data: `nn.CrossEntropyLoss(ignore_index=-100)`",
            f"ignore_index is the number of an output and of {percent(_FEWEST)} of the targets, which are not padding",
        )
        return
    yield from _without_gradient(evidence)


def _targets(evidence: Evidence, call: LossCall) -> torch.Tensor:
    """The targets of all batches that were read, where each sample has one and the loss gets them unchanged, since a
    small first batch may lack a class; else the targets of the call."""
    path = evidence.loss_target_path
    if path is None or call.target.ndim != 1:
        return call.target
    leaves_there = (leaf(batch, path) for batch in evidence.train.raw)
    targets = [part for part in leaves_there if part is not None and part.ndim == 1]
    single = len(targets) == len(evidence.train.raw) and len(targets[0]) == len(call.target)
    return torch.cat(targets) if single else call.target


def _without_gradient(evidence: Evidence) -> Iterator[Finding]:
    """A class whose samples or positions send no gradient to the network's outputs, whatever the loss is."""
    unknown = evidence.loss_target_path is None or next_token_targets(evidence) is not None
    if unknown and not _labeled(evidence.train.raw[0]):
        return
    counted = evidence.counted
    single = all(y.numel() == len(y) for y in counted.targets)
    with_gradient = counted.samples if single else counted.entries
    if with_gradient is None:
        return
    targets = torch.cat([y.flatten() for y in counted.targets])
    known = torch.cat([part.flatten() for part in with_gradient])
    kinds = targets.unique()
    if not 2 <= len(kinds) <= _MOST_CLASSES or bool((kinds != kinds.round()).any()) or _exclusive(counted.targets):
        return
    lost = [int(kind) for kind in kinds if kind >= 0 and not known[targets == kind].any()]
    lost = [kind for kind in lost if int((targets == kind).sum()) >= max(_LEAST, _FEWEST * len(targets))]
    lost = [kind for kind in lost if not _is_unknown(evidence, kind)]
    rest = known[~torch.isin(targets, torch.tensor(lost, dtype=targets.dtype))]
    if not lost or not len(rest) or float(rest.float().mean()) < _COUNTED:
        return
    ends = ((kind, name_of_end(evidence, counted.targets[0], kind)) for kind in lost)
    named = next((end for end in ends if end[1]), None)
    if named is not None:
        yield _of_end("no gradient comes back from", named[1], named[0])
        return
    if any(_is_padding(evidence, y, kind) for y in counted.targets for kind in lost):
        return
    share = float(torch.isin(targets, torch.tensor(lost, dtype=targets.dtype)).float().mean())
    signed = len(kinds) == 2 and lost == [0]
    yield _finding(
        f"in {several(len(counted.samples), 'step')} no gradient comes back from targets of class "
        f"{', '.join(map(str, lost[:5]))}, {percent(share, 0)} of all, but {percent(float(rest.float().mean()), 0)} of "
        "the others have one",
        "use labels -1 and 1 if the loss multiplies by them (a hinge, `nn.SoftMarginLoss()`, "
        "`nn.CosineEmbeddingLoss()`): `2 * labels - 1`; else use `nn.BCEWithLogitsLoss()`, which counts both classes"
        if signed
        else "remove weights and masks that are 0 for a class: `nn.CrossEntropyLoss()` counts all classes",
        f"none of at least {_LEAST} targets of a class has a gradient, but {percent(_COUNTED, 0)} of the others have "
        "one",
    )


def _labeled(batch: Any) -> bool:
    """Whether the last part of a batch holds the samples' labels, rather than a mask that follows the targets."""
    if not isinstance(batch, list | tuple) or len(batch) < 3:
        return True
    shapes = [part.shape if isinstance(part, torch.Tensor) else None for part in batch]
    return shapes[-1] is not None and len(shapes[-1]) == 1 and len(set(shapes[:-1])) == 1


def _exclusive(targets: tuple[torch.Tensor, ...]) -> bool:
    """Whether targets (N, K) are one-hot, so that a loss takes the log probability of one class only."""
    return targets[0].ndim == 2 and all(bool((y.sum(1) == 1).all()) for y in targets)


def _is_unknown(evidence: Evidence, kind: int) -> bool:
    """Whether the network has no output for a class, which then marks unknown targets."""
    outputs = main_tensor(evidence.first.outputs)
    if outputs is None or outputs.ndim < 2 or outputs.shape[1] == 1:
        known = 2
    else:  # classes are on the second axis of maps, and on the second or the last one of tokens
        known = int(outputs.shape[1]) if outputs.ndim > 3 else max(outputs.shape[1:])
    return evidence.setup.compares and kind >= known


def _finding(measured: str, remedy: str, limit: str) -> Finding:
    return IGNORED_CLASS.finding(
        severity="warning",
        where="the loss",
        measured=measured,
        limit=limit,
        why="The network never learns this class, and predicts another one in its place.",
        remedy=remedy,
    )


def _of_end(lost: str, name: str, number: int) -> Finding:
    return _finding(
        f"{lost} the end of each row of targets: {number} pads rows, and is also `{name}`",
        "use different numbers for padding and for the end: `PAD, BOS, EOS = 0, 1, 2`",
        "an ignored number that pads rows and, by a name in the script, also ends them",
    )


def _is_padding(evidence: Evidence, target: torch.Tensor, ignored: int) -> bool:
    """Whether the ignored number pads rows of a sequence, or is the target wherever the input is one certain token."""
    for _, _, tokens in token_inputs(evidence):
        if tokens.numel() != target.numel() or torch.equal(tokens.flatten(), target.flatten()):
            continue
        targets = target.reshape(tokens.shape)
        inputs = tokens[targets == ignored]
        if len(inputs) and len(inputs.unique()) == 1 and not _precedes_tokens(tokens, targets, ignored):
            return True
    rows = target_rows(evidence, target)
    return rows is not None and padding_value(rows) == ignored


def _precedes_tokens(tokens: torch.Tensor, targets: torch.Tensor, ignored: int) -> bool:
    """Whether targets are the inputs' next tokens, and a token that counts follows most of the ignored ones: the
    ignored number is then a token, such as a newline, and not padding."""
    following = targets[tokens == ignored]
    shifted = float((targets[:, :-1] == tokens[:, 1:]).float().mean()) > _SHIFTED
    return shifted and len(following) > 0 and float((following != ignored).float().mean()) > 0.5


IGNORED_CLASS = Check(
    codes=("loss.ignored-class",),
    run=_ignored,
    explains="model.redundant-filters model.collapsed optim.lr-too-low fit.* data.imbalance data.missing-class",
)
