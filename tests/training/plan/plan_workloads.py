"""Small trainings about to start, to make plans for."""

from __future__ import annotations

import torch
from short_runs import asked_for
from torch import nn

from striate.machine.load import Load
from striate.training.config import ExecutionConfig
from striate.training.plan.plan_table import Candidate, candidate_of
from striate.training.plan.trial import Workload
from striate.training.prepare import prepare

QUIET, BUSY = Load(2, 0.0, 1.0), Load(2, 2.0, 1.0)
OPEN = ExecutionConfig()


class OffInHalfPrecision(nn.Module):
    """Fine in fp32; in bf16 a large number swallows what the layer says."""

    def __init__(self, swallowed: float = 3000.0) -> None:
        super().__init__()
        self.conv, self.out, self.swallowed = nn.Conv2d(1, 6, 3), nn.Linear(6 * 36, 10), swallowed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x).relu()
        maps = (maps + torch.tensor(self.swallowed, dtype=maps.dtype)) - self.swallowed
        return self.out(maps.flatten(1))


def workload(module: nn.Module | None = None, steps: int = 10**9, **fields: object) -> Workload:
    """A long training of a small network on digits, decided but for its execution; four threads are usual."""
    prepared = prepare(
        asked_for(**({"execution__plan": "plain", "batch": 32, "execution__threads": 4} | fields)), module
    )
    return Workload(
        prepared.state, prepared.task, prepared.splits["train"], prepared.config, prepared.normalize, steps, threads=4
    )


def plain_of(work: Workload) -> Candidate:
    """Its plain candidate."""
    return candidate_of(work.config.execution)
