"""speed.input-bound: does training wait for the loader most of the time?"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding, Remedy

_SHARE = 0.6
_SECONDS = 0.008
_SAMPLE_SECONDS = 0.0001


def _run(evidence: Evidence) -> Iterator[Finding]:
    loader, train = evidence.patient.train, evidence.train
    if evidence.patient.arrays or evidence.trial.error is not None or not evidence.trial.rows:
        return
    known = sorted(train.seconds[1:] or train.seconds)
    loading = known[len(known) // 4]  # a machine with other work to do makes single batches slow
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
    epoch = "" if train.length is None else f", {waiting * train.length / max(size, 1):.1f} s in an epoch"
    yield Finding(
        code="speed.input-bound",
        severity="warning",
        where="the training loader",
        measured=f"{read}, a training step {step * 1000:.1f} ms: {share:.0%} of the time is spent waiting for "
        f"data{epoch}",
        threshold=CHECK.threshold,
        why="The network is idle while samples are read and prepared one by one.",
        remedy=Remedy(_remedy(workers), command=("data", "pack", "DATA")),
    )


def _remedy(workers: int) -> str:
    once = "do once what is the same each time: decode and resize all samples before training and keep them as a tensor"
    if workers:
        return f"{once}; or take more workers: `num_workers={2 * workers}`"
    return f"let others prepare batches meanwhile: `DataLoader(…, num_workers=4, persistent_workers=True)`; or {once}"


CHECK = Check(
    codes=("speed.input-bound",),
    question="Does training wait for the loader most of the time?",
    threshold=f"{_SHARE:.0%} or more of the time of a step, its loading divided by the loader's workers, and "
    f"{_SECONDS * 1000:g} "
    "ms a batch: below that, handing out samples of small networks always takes longer than their step",
    run=_run,
)
