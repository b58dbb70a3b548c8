"""The processes of one training, the samples that each computes, and sums over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from signal import Signals
from typing import Any, Protocol

import torch
from torch import distributed
from torch.distributed import ReduceOp

from striate.data.dataset import Split
from striate.data.loader import Batch, batch_bounds, batches
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.measured import Measured
from striate.training.prepared_batch import part_bounds


class _HasGradient(Protocol):
    grad: torch.Tensor | None


@dataclass(frozen=True)
class Processes:
    """The processes of one training, seen from one of them.

    Each computes a contiguous part of every batch. A batch with fewer samples than there are processes is computed
    whole by each of them, and counted once. A single process sums nothing.
    """

    rank: int = 0
    """The number of this process, from 0."""
    count: int = 1
    """The number of processes."""
    sharded: bool = False
    """Whether the network is sharded over them: then FSDP sums the gradients."""

    @property
    def several(self) -> bool:
        """Whether there are several processes."""
        return self.count > 1

    def divides(self, samples: int) -> bool:
        """Whether a batch of `samples` samples is divided among the processes."""
        return self.several and samples >= self.count

    def part(self, samples: int) -> tuple[int, int]:
        """First and last+1 of the samples of a batch that this process computes; parts differ by at most one sample."""
        if not self.divides(samples):
            return 0, samples
        return self.rank * samples // self.count, (self.rank + 1) * samples // self.count

    def blocks(self, number: int) -> tuple[int, int]:
        """First and last+1 of the batches that this process measures, of `number` batches; it may be none."""
        return self.rank * number // self.count, (self.rank + 1) * number // self.count

    def counts(self, samples: int) -> bool:
        """Whether this process's results for a batch of `samples` samples enter sums."""
        return self.rank == 0 or self.divides(samples)

    def total(self, values: torch.Tensor, *, counted: bool = True) -> torch.Tensor:
        """The sum of a tensor over the processes, the same bits in each; `values` itself in a single process."""
        if not self.several:
            return values
        summed = values.clone() if counted else torch.zeros_like(values)
        distributed.all_reduce(summed)
        return summed

    def summed(self, loss: torch.Tensor, measured: Measured, *, counted: bool = True) -> tuple[torch.Tensor, Measured]:
        """`total` of a scalar loss, and the merged measurements of all processes; in one exchange where these are plain
        sums."""
        if not self.several:
            return loss, measured
        vector = measured.vector()
        if vector is None:
            return self.total(loss, counted=counted), self._gathered(measured, counted=counted)
        both = self.total(torch.cat([loss.double().view(1), vector]), counted=counted)
        measured.load_vector(both[1:])
        return both[0].to(loss.dtype), measured

    def joined(self, measured: Measured, device: torch.device) -> Measured:
        """The merged measurements of all processes, with sums on `device`; some processes, but not all, may have
        none."""
        if not self.several:
            return measured
        if measured.sums is None:
            return self._gathered(measured)
        vector = measured.vector()
        (size,) = self.largest(0 if vector is None else len(vector))
        measured.load_vector(
            self.total(torch.zeros(size, dtype=torch.float64, device=device) if vector is None else vector)
        )
        return measured

    def _gathered(self, measured: Measured, *, counted: bool = True) -> Measured:
        """The measurements of all processes, merged in their order, the same in each."""
        states: list[Any] = [None] * self.count
        distributed.all_gather_object(states, measured.saved() if counted else None)
        whole = measured.empty()
        for state in states:
            if state is not None:
                part = measured.empty()
                part.load(state)
                whole.merge(part)
        return whole

    def for_backward(self, loss: torch.Tensor, samples: int) -> torch.Tensor:
        """The loss of a part of a batch for its backward pass: FSDP takes the mean of the gradients over the processes,
        so that the loss is multiplied by their number."""
        return loss * self.count if self.sharded and self.divides(samples) else loss

    def agreed(self, signal: str | None, due: bool = False) -> tuple[str | None, bool]:
        """After a step: the signal that any process got, which ends all of them, and whether any wants to save."""
        if not self.several:
            return signal, due
        number, wanted = self.largest(Signals[signal].value if signal else 0, int(due))
        return Signals(number).name if number else None, bool(wanted)

    def largest(self, *values: int) -> tuple[int, ...]:
        """The largest of each of these numbers over the processes."""
        if not self.several:
            return values
        vector = torch.tensor(values, dtype=torch.int64)
        distributed.all_reduce(vector, ReduceOp.MAX)
        return tuple(map(int, vector.tolist()))

    def sum_gradients(self, parameters: Iterable[_HasGradient], *, counted: bool = True) -> None:
        """Give each parameter with a gradient the sum of its gradients over the processes, the same bits in each.

        Which parameters have a gradient must not depend on the data. All gradients are summed at once, in one copy.
        """
        if not self.several or self.sharded:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat if counted else flat.zero_())
        parts = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view(g.shape) for part, g in zip(parts, gradients, strict=True)])


ALONE = Processes()
"""The only process."""


def prepares_whole_batches(config: Config) -> bool:
    """Whether each process prepares whole batches and then computes its part, since mixup and cutmix blend samples with
    any other of the batch."""
    return bool(config.augment.mixup or config.augment.cutmix)


def bounds_in_step(batch: Batch, config: Config, processes: Processes) -> list[tuple[int, int, int]]:
    """The parts of a batch that go through the network one after the other: for each, its number in the whole batch,
    then its first and last+1 row in `batch`, which is whole or this process's part. All processes have the same number
    of parts, since they wait for each other at normalizations."""
    first, end = processes.part(batch.full_size)
    offset = first if batch.samples is None else 0
    most, own = config.execution.micro_batch, end - first
    bounds = part_bounds(own, most)
    if processes.divides(batch.full_size) and most is not None:
        number = len(part_bounds(-(-batch.full_size // processes.count), most))
        bounds = [(k * own // number, (k + 1) * own // number) for k in range(number)]
    return [(first + a, offset + a, offset + b) for a, b in bounds]


def measured_batches(split: Split, samples: int, processes: Processes) -> Iterator[tuple[int, Batch, bool]]:
    """For each batch of a split that this process measures, `samples` at once: its number, the batch, and whether it
    counts. Whole batches; for a sharded network, this process's part of each batch, since all processes have to compute
    equally often."""
    if processes.sharded:
        for number, batch in enumerate(batches(split, samples, part=processes.part)):
            yield number, batch, processes.counts(batch.full_size)
        return
    first, stop = processes.blocks(len(batch_bounds(len(split), samples)))
    for number, batch in enumerate(batches(split, samples, first=first, stop=stop), start=first):
        yield number, batch, True


def part_weight(task: Task, targets: torch.Tensor, batch: Batch, processes: Processes) -> torch.Tensor | float:
    """The task's weight of the whole batch, from the `targets` of this process."""
    weight = task.weight(targets)
    if len(targets) == batch.full_size:
        return weight
    if isinstance(weight, torch.Tensor):
        return processes.total(weight)
    return weight * batch.full_size / len(targets)  # it depends only on the number of samples
