"""`speed.small-batch`: would larger batches be much faster?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, Trial, go_on, run_trial
from striate.records import Finding, Remedy
from striate.wording import several

_ROUNDS = 6
_WARM = 2


def timed_trials(
    evidence: Evidence, variants: Mapping[str, tuple[Change, Sequence[Any]]], share: float = 0.1
) -> dict[str, Trial]:
    """A trial of each variant, a few steps in turns, within `share` of the budget; the first steps are a warm-up.

    Raises NoEvidence where there is no time for two rounds after the warm-up.
    """
    evidence.clock.need(len(variants) * (_WARM + 2) * evidence.step_seconds)
    until = evidence.clock.until(share)
    trials = {
        name: run_trial(evidence.setup, batches, _WARM, until, _synchronized(evidence, change), close=False)
        for name, (change, batches) in variants.items()
    }
    for _ in range(_ROUNDS):
        for name, (_, batches) in variants.items():
            if trials[name].error is None and perf_counter() < until:
                go_on(trials[name], batches, 1, until)
    if min(len(trial.rows) for trial in trials.values() if trial.error is None or trial.rows) < _WARM + 2:
        raise NoEvidence("steps take too long to be timed in several variants")
    return trials


def fastest_step(trial: Trial) -> float:
    """Seconds of a trial's fastest step after the warm-up: other work of the machine only makes steps slower."""
    return min(row.seconds for row in trial.rows[_WARM:])


def _synchronized(evidence: Evidence, change: Change) -> Change:
    """The same change, with steps that end when the accelerator has computed them."""
    if evidence.setup.device.type != "cuda":
        return change

    @contextmanager
    def synchronized(*given: Any) -> Iterator[None]:
        with change.around(*given) if change.around else nullcontext():
            yield
        torch.cuda.synchronize()

    return replace(change, around=synchronized)


_SMALL = 4
_SAMPLES = 256
_TIMES = 16
_FASTER = 4.0


def _find_small_batch(evidence: Evidence) -> Iterator[Finding]:
    train, trial = evidence.train, evidence.trial
    size = sorted(train.sizes)[len(train.sizes) // 2]
    count = max(train.length or 0, train.count)
    if size > _SMALL or count < _SAMPLES or trial.error is not None or not trial.rows or evidence.first.calls > 1:
        return
    parts = [batch for batch, samples in zip(train.raw, train.sizes, strict=True) if samples == size][:_TIMES]
    large = joined(parts)
    if large is None or len(parts) < 4:
        return
    trials = timed_trials(evidence, {"small": (Change(), parts), "large": (Change(), [large])})
    if any(trial.error is not None for trial in trials.values()):
        return
    slow, fast = size / fastest_step(trials["small"]), size * len(parts) / fastest_step(trials["large"])
    if fast < _FASTER * slow:
        return
    yield SMALL_BATCH.finding(
        severity="warning",
        where="the training loader",
        measured=f"training processes {slow:,.0f} samples a second with batches of {size}, and {fast:,.0f} with "
        f"batches of {size * len(parts)}: {fast / slow:.1f} times as many, of {several(count, 'sample')}",
        why="A step of so few samples spends its time on calling operations, not on computing them.",
        remedy=Remedy(
            f"`DataLoader(…, batch_size={max(32, size * len(parts))})`, with a higher learning rate: twice the rate "
            "for four times the batch is a careful start",
            settings={"batch": max(32, size * len(parts))},
        ),
    )


def joined(batches: list[Any]) -> Any:
    """One batch of several, in their structure; None where they cannot be concatenated."""
    first = batches[0]
    if isinstance(first, torch.Tensor):
        fits = all(isinstance(one, torch.Tensor) and one.shape[1:] == first.shape[1:] and one.ndim for one in batches)
        return torch.cat(batches) if fits else None
    if isinstance(first, Mapping):
        named = {key: joined([batch[key] for batch in batches]) for key in first}
        return None if any(value is None for value in named.values()) else named
    if isinstance(first, list | tuple) and not hasattr(first, "_fields"):
        parts = [joined([batch[place] for batch in batches]) for place in range(len(first))]
        return None if any(value is None for value in parts) else type(first)(parts)
    return None


SMALL_BATCH = Check(
    codes=("speed.small-batch",),
    threshold=f"batches of {_SMALL} or fewer out of {_SAMPLES} samples or more, and {_FASTER:g} times as many samples "
    "a second "
    f"in batches {_TIMES} times as large, timed in turns: smaller gains are paid for by fewer steps",
    run=_find_small_batch,
    quick=False,
)
