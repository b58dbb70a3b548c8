"""speed.sync-every-step: does a step stop again and again to read values, or loop over samples one by one?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.checks.speed.small_batch import fastest_step, timed_trials
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.training_setup import usual_step
from striate.records import Finding
from striate.wording import several

_FETCHED = 16
_SOME = 8
_SLOWER = 2.0
_ROWS = 8


def _run(evidence: Evidence) -> Iterator[Finding]:
    calls, first = evidence.calls, evidence.first
    if calls.error is not None:
        return
    size = evidence.train.sizes[0]
    fetched = sum(calls.fetched.values())
    single_calls = Counter(view.name for view in first.layers if view.kind == "weights" and view.shape[0] == 1)
    single = max(single_calls.values(), default=0) if size >= _ROWS else 0
    by_one = single >= max(_ROWS, size // 2)
    rows = calls.picked >= max(_ROWS, size // 2)
    many = fetched >= _FETCHED
    if fetched < _SOME and not by_one and not rows:
        return
    # A step that trains several networks, or has several backward passes, does more than a plain step.
    alike = by_one or rows or len(calls.backward) <= 1
    speedup = _speedup_of_plain_step(evidence) if alike else None
    # A plain step has a loop within `forward` too: the times do not show what it costs.
    within = by_one and (speedup is None or first.calls <= 1)
    if not many and not within and (speedup is None or speedup < _SLOWER):
        return
    # On a CPU reading a value costs nothing; calling layers with single samples does.
    cheap = evidence.setup.device.type == "cpu" and not by_one and (speedup is None or speedup < _SLOWER)
    text = _measured(evidence, fetched, single if by_one else 0, rows)
    if speedup is not None and speedup > 1.1:
        text += f"; the same batch in one plain step is {speedup:.1f} times as fast"
    yield SYNC_EVERY_STEP.finding(
        severity="note" if cheap else "warning",
        where="the training step",
        measured=text,
        limit=f"{_FETCHED} numbers or more are read into Python in one step (a loss and an accuracy are two)"
        if many
        else f"half of the batch, and {_ROWS} samples at least, are processed one by one"
        if within
        else f"{_SOME} numbers are read into Python in one step, or half of the batch is processed one by one, and a "
        f"plain step is {_SLOWER:g} times as fast",
        why="Python waits for each of these numbers, and meanwhile an accelerator is idle. Samples processed one by "
        "one call every operation once for each sample.",
        remedy=_remedy(by_one or (rows and not many)),
    )


def _measured(evidence: Evidence, fetched: int, single: int, rows: bool) -> str:
    texts, size = [], evidence.train.sizes[0]
    if fetched >= _SOME:
        methods = ", ".join(f"{count} × `{name}`" for name, count in evidence.calls.fetched.most_common(3))
        texts.append(f"one step reads {several(fetched, 'number')} into Python ({methods})")
    if single:
        texts.append(f"layers are called {single} times with one sample each, of a batch of {size}")
    if rows and not single:
        texts.append(f"one step picks {several(evidence.calls.picked, 'row')} one by one, of a batch of {size}")
    return "; ".join(texts) + f"; a step takes {evidence.step_seconds * 1000:.1f} ms"


def _speedup_of_plain_step(evidence: Evidence) -> float | None:
    """How many times as fast the usual step is as the user's on the same batches; None where either fails."""
    if evidence.setup.own_step:
        return None
    batches = evidence.train.raw[:4]
    trials = timed_trials(evidence, {"own": (Change(), batches), "plain": (Change(step=usual_step), batches)})
    if any(trial.error is not None or not trial.rows for trial in trials.values()):
        return None
    return fastest_step(trials["own"]) / max(fastest_step(trials["plain"]), 1e-9)


def _remedy(by_one: bool) -> str:
    if by_one:
        return "pass the whole batch to the network and the loss at once: `loss = criterion(model(x), y)`"
    return (
        "keep numbers as tensors and read them rarely: `total += loss.detach()`, and `total.item()` once in an "
        "epoch; print every hundredth step"
    )


SYNC_EVERY_STEP = Check(
    codes=("speed.sync-every-step",),
    run=_run,
    quick=False,
)
