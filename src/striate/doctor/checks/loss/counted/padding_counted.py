"""`loss.padding-counted`: does padding count in the loss?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.task.alignments import blanks_at_ends
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.padding import padded_positions, padding_value, target_rows
from striate.doctor.evidence.token_targets import class_losses, token_inputs
from striate.doctor.setup.batch import leaves
from striate.records import Finding
from striate.wording import percent

_PADDED = 0.05
"""Share of padding among the positions, from which on it makes up a good part of the loss."""
_MOST = 0.5
"""Share of the padding that has a gradient; where it is smaller, only an end mark may be learned."""
_SAME = 1e-4
_MASKED = "`(losses * mask).sum() / mask.sum()`, with `losses = F.cross_entropy(scores, targets, reduction='none')`"


def _run(evidence: Evidence) -> Iterator[Finding]:
    reasons: list[NoEvidence] = []
    rules = (_by_targets, _by_lengths, _by_gradient, _in_mean)
    for rule in rules:
        try:
            found = rule(evidence)
        except OutOfTime:
            raise
        except NoEvidence as reason:
            reasons.append(reason)
            continue
        if found is not None:
            yield _finding(*found)
            return
    if len(reasons) == len(rules):
        raise reasons[0]


def _finding(measured: str, remedy: str) -> Finding:
    return PADDING_COUNTED.finding(
        severity="warning",
        where="the loss",
        measured=measured,
        why="Padding is soon predicted perfectly: loss and accuracy look better than they are, and the other positions "
        "count less, most of all those of short sequences.",
        remedy=remedy,
    )


def _by_lengths(evidence: Evidence) -> tuple[str, str] | None:
    """Targets of `ctc_loss` whose lengths include padding."""
    if not evidence.calls.alignments:
        raise NoEvidence("the step does not call ctc_loss")
    found = blanks_at_ends(evidence)
    if found is None or found[0] < _PADDED:
        return None
    return (
        f"{percent(found[0], 0)} of the targets within the lengths that ctc_loss gets are {found[1]}, its blank, at "
        "the ends of rows: they only pad rows to the longest of the batch",
        "pass the length of each target itself: `target_lengths = torch.tensor([len(text) for text in texts])`",
    )


def _by_targets(evidence: Evidence) -> tuple[str, str] | None:
    """Targets of a cross entropy whose rows end with repetitions of one number."""
    calls = list(class_losses(evidence))
    if not calls:
        raise NoEvidence("the step does not call cross entropy with class numbers")
    tokens = _tokens_before_ignored(evidence)
    for call in calls:
        rows = target_rows(evidence, call.target.detach().cpu())
        filler = None if rows is None else padding_value(rows)
        if rows is None or filler is None or filler in {call.ignored, *tokens} or call.reduction == "none":
            continue
        if call.weight is not None and filler < len(call.weight) and not float(call.weight[filler]):
            continue
        share = float((rows == filler).float().mean())
        if share >= _PADDED:
            return (
                f"{percent(share, 0)} of the targets are {filler}, which only pads rows to the longest of the batch, "
                "but they count in the loss",
                f"`nn.CrossEntropyLoss(ignore_index={filler})`; leave padding out of the accuracy, too: "
                f"`known = targets != {filler}`",
            )
    return None


def _tokens_before_ignored(evidence: Evidence) -> set[int]:
    """Tokens that are followed by other ones in inputs whose next tokens are the targets, or are ignored.

    They are no padding: in a task of sorting, the largest number is at the ends of rows of targets, too.
    """
    followed = set[int]()
    for call in class_losses(evidence):
        rows = target_rows(evidence, call.target.detach().cpu())
        for _, _, tokens in token_inputs(evidence):
            if rows is None or tokens.shape != rows.shape:
                continue
            target, following = rows[:, :-1], tokens[:, 1:]
            if bool(((following == target) | (target == call.ignored)).all()):
                followed |= set(tokens[:, :-1][following != tokens[:, :-1]].tolist())
    return followed


def _by_gradient(evidence: Evidence) -> tuple[str, str] | None:
    """Gradients at positions that are padding according to the batch's mask or tokens."""
    counted = evidence.counted
    if counted.entries is None or counted.targets[0].ndim != 2:
        raise NoEvidence("there is not one target for each position")
    ignored = torch.tensor(sorted({call.ignored for call in class_losses(evidence)}))
    tokens = _tokens_before_ignored(evidence)
    padding, sent = list[torch.Tensor](), list[torch.Tensor]()
    for targets, known in zip(counted.targets, counted.entries, strict=True):
        filler = None if targets.is_floating_point() else padding_value(targets)
        if filler in tokens:
            continue
        batch = next((raw for raw in evidence.train.raw if _has(raw, targets)), None)
        padded = None if batch is None else targets == filler if filler is not None else padded_positions(batch)
        if padded is None or padded.shape != known.shape:
            continue
        if bool(torch.isin(torch.cat([targets[padded], targets[:, -1]]), ignored).any()):
            return None  # the padding is ignored
        padding.append(padded.flatten())
        sent.append(known[padded])
    if not padding:
        raise NoEvidence("no batch says which positions are padding")
    share, counted_share = float(torch.cat(padding).float().mean()), float(torch.cat(sent).float().mean())
    if share < _PADDED or counted_share < _MOST:
        return None
    return (
        f"{percent(share, 0)} of the positions are padding, and from {percent(counted_share, 0)} of them a gradient "
        "comes back to the network's outputs",
        _MASKED,
    )


def _in_mean(evidence: Evidence) -> tuple[str, str] | None:
    """A mean over all positions, where the losses of padding are set to zero."""
    padded = padded_positions(evidence.train.raw[0])
    if padded is None:
        raise NoEvidence("no batch says which positions are padding")
    share = float(padded.float().mean())
    for call in evidence.calls.losses:
        unreduced = call.reduction == "none" and call.value.numel() == padded.numel() and bool(call.gradients)
        if unreduced and share >= _PADDED and abs(sum(call.gradients) - (1 - share)) < _SAME:
            return (
                f"the losses of padding are set to 0, but the mean is taken over all positions, {percent(share, 0)} of "
                "which are padding",
                _MASKED,
            )
    return None


def _has(batch: object, targets: torch.Tensor) -> bool:
    return any(t.shape == targets.shape and torch.equal(t.detach().cpu(), targets) for _, t in leaves(batch))


PADDING_COUNTED = Check(
    codes=("loss.padding-counted",),
    threshold=f"{percent(_PADDED, 0)} of the positions are padding, according to one number at the ends of rows or to "
    f"a mask, and are not ignored, or {percent(_MOST, 0)} of them have a gradient, or they count in a mean",
    run=_run,
    explains="loss.ignored-class data.imbalance",
)
