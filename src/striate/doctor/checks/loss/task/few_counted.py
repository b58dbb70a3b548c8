"""A loss that depends on only one sample of each batch, or on one position of sequences."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.checks.reward.batches import learns_from_rewards
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.wording import several

_BATCH, _SHARE, _STEPS = 8, 16, 4
"""`_BATCH`: samples of a batch, at least; `_SHARE`: the loss counts one in so many of them at most; `_STEPS`: in as
many steps, at least."""


def few_counted(evidence: Evidence) -> Wrong | None:
    """A loss that depends on one sample of each batch, or on a few."""
    try:
        counted = evidence.counted
    except NoEvidence:
        return None
    positions = _few_positions(counted.entries or ())
    steps = [counts for counts in counted.samples if len(counts) >= _BATCH]
    size, most = min(map(len, steps), default=0), max((int(counts.sum()) for counts in steps), default=0)
    if positions is None and (len(steps) < _STEPS or most > max(1, size / _SHARE) or learns_from_rewards(evidence)):
        return None
    if positions is not None:
        return positions
    always = all(torch.equal(counts[:size], steps[0][:size]) for counts in steps)
    if always and most >= _BATCH and _are_equal(counted.targets):
        return None  # each step sees all data, and only some have labels, such as nodes of a graph
    which = f"; it is always the same, number {int(steps[0].nonzero()[0])}" if always and most == 1 else ""
    return Wrong(
        "error",
        f"in {several(len(steps), 'step')} a gradient comes back to the outputs of at most {several(most, 'sample')} "
        f"in each batch of {size}{which}",
        "Nothing is learned from the other samples, and each step follows the noise of a few.",
        "pass all outputs and targets to the loss, without an index, and take the mean: `criterion(outputs, targets)`, "
        "`losses.mean()`",
        limit=f"a loss of one sample, or one in {_SHARE}, in batches of {_BATCH} or more, in {_STEPS} steps",
    )


def _are_equal(targets: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(one, targets[0]) for one in targets)


def _few_positions(entries: Sequence[torch.Tensor]) -> Wrong | None:
    """A loss of only the first or the last position of sequences, although all positions have targets."""
    if not entries or any(known.ndim != 2 or known.shape[1] < _BATCH for known in entries):
        return None
    first, last = ({int(known[:, end].any()) for known in entries} for end in (0, -1))
    most = max(int(known.any(0).sum()) for known in entries)
    if most > 1 or (first != {1} and last != {1}):
        return None
    return Wrong(
        "error",
        f"in {several(len(entries), 'step')} a gradient comes back only to the outputs of the "
        f"{'first' if first == {1} else 'last'} position, although {entries[0].shape[1]} positions have targets",
        "The predictions for the other positions are never learned.",
        "pass all positions to the loss: `criterion(outputs.permute(0, 2, 1), targets)` for outputs (N, T, C)",
        limit=f"a loss of only the first or the last of {_BATCH} positions or more, in all steps",
    )
