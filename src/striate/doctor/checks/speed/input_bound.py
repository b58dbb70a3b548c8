"""`speed.input-bound`: does training wait for the loader most of the time?"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding, Remedy
from striate.wording import percent

_SHARE = 0.6
_SECONDS = 0.008
_SAMPLE_SECONDS = 0.0001
_LOST = 10.0
"""Seconds that the whole training waits; below them the finding is a note."""


def _find_input_bound(evidence: Evidence) -> Iterator[Finding]:
    loader, train = evidence.setup.train, evidence.train
    if evidence.setup.arrays or evidence.trial.error is not None or not evidence.trial.rows:
        return
    known = sorted(train.seconds[1:] or train.seconds)
    loading = known[len(known) // 4]  # other work of the machine makes single batches slow
    size = sorted(train.sizes)[len(train.sizes) // 2]
    workers = loader.num_workers if isinstance(loader, DataLoader) else 0
    step = evidence.step_seconds
    waiting = max(loading / workers - step, 0.0) if workers else loading
    share = waiting / max(waiting + step, 1e-9)
    if share < _SHARE or waiting < _SECONDS or loading / max(size, 1) < _SAMPLE_SECONDS:
        return
    read = f"loading a batch of {size} takes {loading * 1000:.1f} ms"
    if workers:
        read += f", {loading / workers * 1000:.1f} ms with {workers} workers"
    lost = None if train.length is None else waiting * train.length / max(size, 1)
    epoch = "" if lost is None else f", {lost:.1f} s in an epoch"
    epochs = evidence.setup.source.epochs if evidence.setup.source is not None else None
    yield INPUT_BOUND.finding(
        severity="note" if lost is not None and epochs is not None and lost * epochs < _LOST else "warning",
        where="the training loader",
        measured=f"{read}, a training step {step * 1000:.1f} ms: {percent(share, 0)} of the time is spent waiting for "
        f"data{epoch}",
        why="The network is idle while samples are read and prepared one by one.",
        remedy=Remedy(_remedy(workers), command=("data", "pack", "DATA")),
    )


def _remedy(workers: int) -> str:
    once = (
        "prepare once what is the same each time: decode and resize all samples before training, and keep them as "
        "a tensor"
    )
    if workers:
        return f"{once}; or use more workers: `num_workers={2 * workers}`"
    return f"let workers prepare batches meanwhile: `DataLoader(…, num_workers=4, persistent_workers=True)`; or {once}"


INPUT_BOUND = Check(
    codes=("speed.input-bound",),
    threshold=f"{percent(_SHARE, 0)} or more of the time of a step is spent waiting, with loading divided by the "
    f"number of workers, and {_SECONDS * 1000:g} ms a batch; a note if that is less than {_LOST:g} s in all epochs of "
    "the script",
    run=_find_input_bound,
)
