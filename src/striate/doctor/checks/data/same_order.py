"""`data.same-order`: does a sampler of several processes draw another order each epoch?"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding


def _run(evidence: Evidence) -> Iterator[Finding]:
    source, loader = evidence.source, evidence.setup.train
    sampler = loader.sampler if isinstance(loader, DataLoader) else None
    if not isinstance(sampler, DistributedSampler) or not sampler.shuffle or source.calls("set_epoch"):
        return
    if source.epochs == 1:
        return
    yield Finding(
        code="data.same-order",
        severity="warning",
        where="the sampler of the training loader",
        measured="DistributedSampler draws by its epoch, and no code calls `set_epoch`: each epoch has the order of "
        "the first, and each process the same samples",
        threshold=SAME_ORDER.threshold,
        why="Batches are the same ones in each epoch: training learns less from them, and batch norm sees the same "
        "neighbors.",
        remedy="`loader.sampler.set_epoch(epoch)` at the beginning of each epoch",
    )


SAME_ORDER = Check(
    codes=("data.same-order",),
    question="Does a sampler of several processes draw another order each epoch?",
    threshold="a DistributedSampler that shuffles, more than one epoch, and `set_epoch` nowhere",
    run=_run,
    of_source=True,
)
