"""Arguments of connectionist temporal classification (`ctc_loss`) for which no low loss can be reached."""

from __future__ import annotations

import torch

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.calls import Alignment
from striate.doctor.evidence.evidence import Evidence
from striate.wording import percent, several, show_shape

_OFF, _SHARE, _HALF = 1e-2, 0.05, 0.6
_LENGTHS = "pass the lengths of the network's outputs, after its strides: `input_lengths = samples // stride`"


def wrong_alignment(evidence: Evidence) -> Wrong | None:
    """Scores that are not log probabilities over the classes, and inputs too short for their targets."""
    calls = evidence.calls.alignments
    return next((wrong for call in calls for wrong in (_not_logarithms(call), _too_short(call)) if wrong), None)


def blank_as_class(evidence: Evidence) -> tuple[float, int] | None:
    """The share of the targets that are the blank, and the blank's number; None where no target is."""
    for call in evidence.calls.alignments:
        known = torch.cat(
            [row[: len(row) - _blanks_at_end(row, call.blank)] for row in _rows(call)] or [torch.empty(0)]
        )
        share = float((known == call.blank).float().mean()) if len(known) else 0.0
        if share > 0:
            return share, call.blank
    return None


def blanks_at_ends(evidence: Evidence) -> tuple[float, int] | None:
    """The share of the targets that are blanks at the ends of rows within their lengths, and the blank's number; None
    where all rows end with the same number of blanks, such as 0."""
    for call in evidence.calls.alignments:
        rows = _rows(call)
        ends = [_blanks_at_end(row, call.blank) for row in rows]
        if len(set(ends)) > 1:
            return sum(ends) / sum(map(len, rows)), call.blank
    return None


def _blanks_at_end(row: torch.Tensor, blank: int) -> int:
    return int((row.flip(0) == blank).long().cumprod(0).sum())


def _not_logarithms(call: Alignment) -> Wrong | None:
    sums = call.log_probs.double().logsumexp(-1)
    off = float((sums.abs() > _OFF).double().mean())
    if off < 0.5:
        return None
    return Wrong(
        "error",
        f"the exponentials of the input {show_shape(call.log_probs.shape)} (time, samples, classes) of ctc_loss sum to "
        f"{float(sums.exp().mean()):.3g} over the classes instead of 1",
        "The loss expects log probabilities of the classes, and has no minimum for other values.",
        "`log_probs = outputs.log_softmax(2)`, for outputs (time, samples, classes)",
        limit="an input of ctc_loss that is not log probabilities, in half of the places",
    )


def _too_short(call: Alignment) -> Wrong | None:
    rows = _rows(call)
    needed = [len(row) + int((row[1:] == row[:-1]).sum()) for row in rows]
    lengths = call.input_lengths.flatten().tolist()
    short = sum(have < need for have, need in zip(lengths, needed, strict=False))
    longest, steps = max(lengths, default=0), len(call.log_probs)
    if lengths and longest <= _HALF * steps:
        return Wrong(
            "warning",
            f"the longest of {several(len(lengths), 'input')} has a length of {several(longest, 'step')}, but outputs "
            f"have {steps}",
            "Batches are padded to their longest input, but the loss ignores all outputs after the given lengths.",
            _LENGTHS,
            limit=f"input lengths of at most {percent(_HALF, 0)} of the steps",
        )
    if not rows or short < max(1, _SHARE * len(rows)):
        return None
    return Wrong(
        "error",
        f"{short} of {several(len(rows), 'sample')} have fewer steps than their target needs (such as {min(lengths)} "
        f"for {max(needed)}); outputs have {several(len(call.log_probs), 'step')}",
        "No alignment fits such a target: its loss is infinite, or 0 with zero_infinity, and nothing is learned from "
        "it.",
        _LENGTHS,
        limit=f"{percent(_SHARE, 0)} of the inputs have fewer steps than their targets need",
    )


def _rows(call: Alignment) -> list[torch.Tensor]:
    """The targets of each sample, without padding."""
    lengths = call.target_lengths.flatten().tolist()
    if call.targets.ndim == 2:
        return [row[:length] for row, length in zip(call.targets, lengths, strict=False)]
    return list(call.targets.split(lengths)) if sum(lengths) == len(call.targets) else []
