"""speed.small-batch: would larger batches be much faster?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.speed.timing import best, seconds_of_steps
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.records import Finding, Remedy

_SMALL = 4
_SAMPLES = 256
_TIMES = 16
_FASTER = 4.0


def _run(evidence: Evidence) -> Iterator[Finding]:
    train, trial = evidence.train, evidence.trial
    size = sorted(train.sizes)[len(train.sizes) // 2]
    count = max(train.length or 0, train.count)
    if size > _SMALL or count < _SAMPLES or trial.error is not None or not trial.rows or evidence.first.calls > 1:
        return
    parts = [batch for batch, samples in zip(train.raw, train.sizes, strict=True) if samples == size][:_TIMES]
    large = joined(parts)
    if large is None or len(parts) < 4:
        return
    trials = seconds_of_steps(evidence, {"small": (Change(), parts), "large": (Change(), [large])})
    if any(trial.error is not None for trial in trials.values()):
        return
    slow, fast = (size / best(trials["small"])), (size * len(parts) / best(trials["large"]))
    if fast < _FASTER * slow:
        return
    yield Finding(
        code="speed.small-batch",
        severity="warning",
        where="the training loader",
        measured=f"with batches of {size}, {slow:,.0f} samples a second are trained with; with batches of "
        f"{size * len(parts)}, {fast:,.0f}: {fast / slow:.1f} times as many, of {count:,} samples",
        threshold=CHECK.threshold,
        why="A step of so few samples is spent on calling its operations, not on computing them.",
        remedy=Remedy(
            f"`DataLoader(…, batch_size={max(32, size * len(parts))})`, with a learning rate that is higher: twice "
            "for four times the batch is a careful beginning",
            settings={"batch": max(32, size * len(parts))},
        ),
    )


def joined(batches: list[Any]) -> Any:
    """One batch of several, in their own form; None where they cannot be put together."""
    first = batches[0]
    if isinstance(first, torch.Tensor):
        fits = all(isinstance(one, torch.Tensor) and one.shape[1:] == first.shape[1:] and one.ndim for one in batches)
        return torch.cat(batches) if fits else None
    if isinstance(first, Mapping):
        found = {key: joined([batch[key] for batch in batches]) for key in first}
        return None if any(value is None for value in found.values()) else found
    if isinstance(first, list | tuple) and not hasattr(first, "_fields"):
        rows = [joined([batch[place] for batch in batches]) for place in range(len(first))]
        return None if any(value is None for value in rows) else type(first)(rows)
    return None


CHECK = Check(
    codes=("speed.small-batch",),
    question="Would larger batches be much faster?",
    threshold=f"batches of {_SMALL} or fewer out of {_SAMPLES} samples or more, and {_FASTER:g} times as many samples "
    "a second "
    f"in batches {_TIMES} times as large, timed in turns: smaller gains are paid for by fewer steps",
    run=_run,
    quick=False,
)
