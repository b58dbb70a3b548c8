"""The processes of one training, and sums over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from signal import Signals
from typing import Any, Protocol

import torch
from torch import distributed
from torch.distributed import ReduceOp

from striate.training.measured import Measured


class _HasGradient(Protocol):
    grad: torch.Tensor | None


@dataclass(frozen=True)
class Processes:
    """Process `rank` of `count`; one alone sums nothing.

    Each takes a contiguous part of every batch. A batch with fewer samples than there are processes is computed whole
    by each of them, and counted once.
    """

    rank: int = 0
    count: int = 1
    sharded: bool = False
    """Whether the network is spread over them: then gradients are summed where they are computed."""

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def divides(self, samples: int) -> bool:
        """Whether a batch of so many samples is divided among the processes."""
        return self.several and samples >= self.count

    def part(self, samples: int) -> tuple[int, int]:
        """First and last+1 of the samples of a batch that are this process's; parts differ by one sample at most."""
        if not self.divides(samples):
            return 0, samples
        return self.rank * samples // self.count, (self.rank + 1) * samples // self.count

    def blocks(self, number: int) -> tuple[int, int]:
        """First and last+1 of `number` batches of a measurement that are this process's; there may be none."""
        return self.rank * number // self.count, (self.rank + 1) * number // self.count

    def counts(self, samples: int) -> bool:
        """Whether what this process computes of a batch of so many samples enters sums."""
        return self.rank == 0 or self.divides(samples)

    def total(self, values: torch.Tensor, *, counted: bool = True) -> torch.Tensor:
        """The sum of a tensor over the processes, the same bits in each; `values` itself where there is one."""
        if not self.several:
            return values
        summed = values.clone() if counted else torch.zeros_like(values)
        distributed.all_reduce(summed)
        return summed

    def summed(self, loss: torch.Tensor, measured: Measured, *, counted: bool = True) -> tuple[torch.Tensor, Measured]:
        """`total` of a scalar loss, and what all processes have measured; at once where that is sums."""
        if not self.several:
            return loss, measured
        vector = measured.vector()
        if vector is None:
            return self.total(loss, counted=counted), self._gathered(measured, counted=counted)
        both = self.total(torch.cat([loss.double().view(1), vector]), counted=counted)
        measured.load_vector(both[1:])
        return both[0].to(loss.dtype), measured

    def joined(self, measured: Measured, device: torch.device) -> Measured:
        """What all processes have measured, sums of it on `device`; some of them, but not all, may have nothing."""
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
        """What all processes have measured, merged in their order, the same in each."""
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
        """The loss of a part of a batch as the backward pass is to begin with it: a spread network takes the mean of
        the gradients of all processes, not their sum."""
        return loss * self.count if self.sharded and self.divides(samples) else loss

    def agreed(self, signal: str | None, due: bool = False) -> tuple[str | None, bool]:
        """The signal that any of the processes got, told to all after the same step, which is then their last; and
        whether any wants to save."""
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
        """Give each parameter that has a gradient the sum of its gradients over the processes, the same bits in each.

        Which parameters have one must not depend on the data. One sum of all of them: a network's gradients lie in one
        stretch of memory meanwhile.
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
