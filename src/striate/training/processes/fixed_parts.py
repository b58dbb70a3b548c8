"""A batch in a fixed number of parts, computed and added up alike by any number of processes (`--deterministic`).

An fp32 sum depends on the order of its terms, and a kernel's result on the shape of its input. So each part of a batch
has the same samples and its own passes, whichever process computes it. All processes get the results of all parts, and
add them up in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

from striate.data.loader import Batch
from striate.data.targets import Targets
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.measured import Measured
from striate.training.processes.group import Processes

T = TypeVar("T")


def in_fixed_parts(config: Config) -> bool:
    """Whether batches are computed in fixed parts."""
    return (config.execution.batch_parts or 1) > 1


@dataclass(frozen=True)
class FixedParts:
    """The parts of a batch. Each has at least two samples, if the batch has. With fewer parts than processes, some
    processes own none."""

    samples: int
    """Samples of the batch."""
    count: int
    """Number of parts."""
    processes: Processes
    """The processes that compute them."""

    @staticmethod
    def of(samples: int, config: Config, processes: Processes) -> FixedParts:
        """The parts of a batch of `samples` samples."""
        return FixedParts(samples, min(config.execution.batch_parts or 1, max(1, samples // 2)), processes)

    def bounds(self, part: int) -> tuple[int, int]:
        """First and last+1 of its samples in the whole batch."""
        return part * self.samples // self.count, (part + 1) * self.samples // self.count

    def owner(self, part: int) -> int:
        """The process that is responsible for the part."""
        return part * self.processes.count // self.count

    @property
    def own(self) -> list[int]:
        """The parts that this process is responsible for."""
        return [part for part in range(self.count) if self.owner(part) == self.processes.rank]

    @property
    def computed(self) -> list[int]:
        """The parts that this process computes: its own; where it has none, the first, for its shapes."""
        return self.own or [0]

    def read(self) -> tuple[int, int]:
        """First and last+1 of the samples that this process reads."""
        return self.bounds(self.computed[0])[0], self.bounds(self.computed[-1])[1]

    def within(self, batch: Batch, part: int) -> slice:
        """The rows of the part in `batch`, which may hold only the samples of this process."""
        first, end = self.bounds(part)
        offset = 0 if batch.samples is None else batch.start
        return slice(first - offset, end - offset)

    def exchanged(self, values: Mapping[int, torch.Tensor]) -> list[torch.Tensor]:
        """The tensors of all parts, in order, the same in each process, from those of the parts that this process has
        `computed`; all have one shape and type."""
        if not self.processes.several:
            return [values[part] for part in range(self.count)]
        form, found = next(iter(values.values())), []
        for rank in sorted({self.owner(part) for part in range(self.count)}):
            parts = [part for part in range(self.count) if self.owner(part) == rank]
            mine = rank == self.processes.rank
            rows = torch.stack([values[part] for part in parts]) if mine else form.new_empty((len(parts), *form.shape))
            distributed.broadcast(rows, rank)
            found += list(rows)
        return found

    def weight(self, task: Task, targets: Mapping[int, Targets]) -> torch.Tensor | float:
        """The task's weight of the whole batch, from the targets of the parts that this process has `computed`."""
        weights = {part: task.weight(of_part) for part, of_part in targets.items()}
        values = {part: torch.as_tensor(w, device=targets[part].device) for part, w in weights.items()}
        total = added(self.exchanged(values))
        return total if isinstance(next(iter(weights.values())), torch.Tensor) else total.item()


@dataclass(frozen=True)
class PartDone:
    """The result of the passes of one part."""

    gradients: list[torch.Tensor | None]
    """Of the trained parameters. None: a parameter has none."""
    loss: torch.Tensor
    """Scalar."""
    measured: Measured
    """What was measured."""
    buffers: list[torch.Tensor]
    """The buffers after it; before it they are the same for all parts."""


def added(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors of one shape, in pairs: for 4, (a + b) + (c + d)."""
    while len(values) > 1:
        pairs = [values[k] + values[k + 1] for k in range(0, len(values) - 1, 2)]
        values = [*pairs, *values[len(pairs) * 2 :]]
    return values[0]


@torch.no_grad()
def add_up(
    parts: FixedParts,
    done: Mapping[int, PartDone],
    trained: Sequence[nn.Parameter],
    buffers: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, Measured]:
    """Set the gradients of the `trained` parameters to those of the whole batch, and the `buffers` to their mean over
    the parts; whole numbers, such as counts of batches, to those of the first part. Returns the scalar loss and what is
    measured."""
    first = next(iter(done.values()))
    having = [k for k, gradient in enumerate(first.gradients) if gradient is not None]
    if having:
        flat = {part: _flat([result.gradients[k] for k in having]) for part, result in done.items()}
        for k in having:
            trained[k].grad = first.gradients[k]
        _fill([trained[k].grad for k in having], added(parts.exchanged(flat)))
    real = [k for k, buffer in enumerate(buffers) if buffer.is_floating_point()]
    if real:
        rows = torch.stack(parts.exchanged({p: _flat([r.buffers[k] for k in real]) for p, r in done.items()}))
        mean = added(list(rows)) / len(rows)
        # What no part has changed stays as it is, to the bit.
        _fill([buffers[k] for k in real], torch.where((rows == rows[0]).all(0), rows[0], mean))
    whole = [k for k, buffer in enumerate(buffers) if not buffer.is_floating_point()]
    if whole:
        numbers = {p: _flat([r.buffers[k].long() for k in whole]) for p, r in done.items()}
        _fill([buffers[k] for k in whole], parts.exchanged(numbers)[0])
    losses = parts.exchanged({part: result.loss for part, result in done.items()})
    return added(losses), _measured(parts, {part: result.measured for part, result in done.items()})


def _measured(parts: FixedParts, measured: Mapping[int, Measured]) -> Measured:
    """The measurements of all parts, merged in their order."""
    first = next(iter(measured.values()))
    vectors = {part: vector for part, one in measured.items() if (vector := one.vector()) is not None}
    if len(vectors) == len(measured):
        whole = first.empty()
        whole.load_vector(added(parts.exchanged(vectors)))
        return whole
    return in_order(parts.processes, [measured[part] for part in parts.own], first.empty)


def in_order(processes: Processes, measured: Sequence[Measured], empty: Callable[[], Measured]) -> Measured:
    """The measurements of all processes, merged in the order of the processes and, within each, in its own."""
    every = list(measured)
    if processes.several:
        states: list[list[object]] = [[] for _ in range(processes.count)]
        distributed.all_gather_object(states, [_moved(one.saved()) for one in measured])
        every = []
        for state in (state for of_process in states for state in of_process):
            every.append(empty())
            every[-1].load(state)  # type: ignore[arg-type]
    whole = empty()
    for one in every:
        whole.merge(one)
    return whole


def _moved(saved: T) -> T:
    """On the CPU, where every process can read it."""
    return saved.cpu() if isinstance(saved, torch.Tensor) else saved  # type: ignore[return-value]


def _flat(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors if tensor is not None])


def _fill(tensors: Sequence[torch.Tensor | None], flat: torch.Tensor) -> None:
    there = [tensor for tensor in tensors if tensor is not None]
    for tensor, values in zip(there, flat.split([tensor.numel() for tensor in there]), strict=True):
        tensor.copy_(values.view(tensor.shape))
