"""How many samples fit into the memory of a GPU at once."""

from __future__ import annotations

from dataclasses import replace

import torch

from striate.training.plan.candidate import Candidate
from striate.training.plan.trial import Trials, Workload
from striate.training.refusals import fewest_at_once


def fitting(work: Workload, plain: Candidate) -> Workload:
    """The workload, with `execution.micro_batch` where a plain step of its whole batch does not fit into memory: half
    of the batch, or a quarter, and so on, at least 1, or 2 with batch normalization. Unchanged where a size was asked
    for, where nothing fits, and on a CPU, whose system ends a process rather than refusing it memory."""
    config, batch = work.config, min(work.config.batch or 1, len(work.train))
    if config.execution.micro_batch is not None or config.execution.device == "cpu":
        return work
    part, fewest = batch, fewest_at_once(work.state.module)
    while part >= fewest:
        execution = replace(config.execution, micro_batch=None if part == batch else part)
        smaller = replace(work, config=replace(config, execution=execution))
        try:
            Trials(smaller, batch).seconds(plain, 1)
        except torch.OutOfMemoryError:
            part //= 2
            continue
        finally:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return smaller
    return work
