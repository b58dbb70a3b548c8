"""`data.same-order`: does a sampler of several processes draw all samples, in another order each epoch?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, cast

from torch import distributed
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several


def _run(evidence: Evidence) -> Iterator[Finding]:
    source, loader = evidence.source, evidence.setup.train
    sampler = loader.sampler if isinstance(loader, DataLoader) else None
    if not isinstance(sampler, DistributedSampler):
        return
    processes = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    begins_others = "WORLD_SIZE" in os.environ or source.calls("init_process_group", "spawn")
    if sampler.num_replicas > processes and not begins_others:
        yield _of_others(sampler, processes)
        return
    if not sampler.shuffle or source.calls("set_epoch") or source.epochs == 1:
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


def _of_others(sampler: DistributedSampler[Any], processes: int) -> Finding:
    """Shares of processes that there are not."""
    all_of_them = several(len(cast(Any, sampler.dataset)), "sample")
    return Finding(
        code="data.same-order",
        severity="error",
        where="the sampler of the training loader",
        measured=f"DistributedSampler draws for process {sampler.rank} of {sampler.num_replicas}, "
        f"{len(sampler):,} of {all_of_them}; {several(processes, 'process', 'processes')} "
        f"{'is' if processes == 1 else 'are'} running",
        threshold=SAME_ORDER.threshold,
        why="The samples of the other processes are drawn by nobody.",
        remedy="`DistributedSampler(data)` without numbers asks how many processes there are, or "
        "`DataLoader(data, batch_size, shuffle=True)` in one process",
    )


SAME_ORDER = Check(
    codes=("data.same-order",),
    question="Does a sampler of several processes draw all samples, in another order each epoch?",
    threshold="a DistributedSampler that shuffles, more than one epoch, and `set_epoch` nowhere; or one for more "
    "processes than are running",
    run=_run,
    of_source=True,
    explains="data.too-few data.missing-class optim.lr-schedule fit.*",
)
