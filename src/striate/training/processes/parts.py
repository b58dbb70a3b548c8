"""Which samples of a batch a process computes, and what their share of the whole is."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.data.dataset import Split
from striate.data.loader import Batch, batch_bounds, batches
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.prepared_batch import part_bounds
from striate.training.processes.group import Processes


def whole_for_mixing(config: Config) -> bool:
    """Whether each process prepares whole batches and then computes its part: samples are blended with any others of
    their batch."""
    return bool(config.augment.mixup or config.augment.cutmix)


def bounds_in_step(batch: Batch, config: Config, processes: Processes) -> list[tuple[int, int, int]]:
    """What goes through the network at once: number in the whole batch, then first and last+1 in `batch`, which is
    whole or this process's part. Every process has as many of these, since normalization makes them wait for one
    another."""
    first, end = processes.part(batch.whole)
    offset = first if batch.samples is None else 0
    most, own = config.execution.micro_batch, end - first
    bounds = part_bounds(own, most)
    if processes.divides(batch.whole) and most is not None:
        number = len(part_bounds(-(-batch.whole // processes.count), most))
        bounds = [(k * own // number, (k + 1) * own // number) for k in range(number)]
    return [(first + a, offset + a, offset + b) for a, b in bounds]


def measured_batches(split: Split, samples: int, processes: Processes) -> Iterator[tuple[int, Batch, bool]]:
    """Number, samples and whether they are counted of what this process measures of a split, `samples` at once: whole
    batches; of a network that is spread its part of each, since all have to compute equally often."""
    if processes.sharded:
        for number, batch in enumerate(batches(split, samples, part=processes.part)):
            yield number, batch, processes.counts(batch.whole)
        return
    first, stop = processes.blocks(len(batch_bounds(len(split), samples)))
    for number, batch in enumerate(batches(split, samples, first=first, stop=stop), start=first):
        yield number, batch, True


def part_weight(task: Task, targets: torch.Tensor, batch: Batch, processes: Processes) -> torch.Tensor | float:
    """The task's weight of the whole batch, from the `targets` of what this process has of it."""
    weight = task.weight(targets)
    if len(targets) == batch.whole:
        return weight
    if isinstance(weight, torch.Tensor):
        return processes.total(weight)
    return weight * batch.whole / len(targets)  # it depends on nothing but the number of samples
