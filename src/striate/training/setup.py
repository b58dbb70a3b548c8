"""What the steps of a training are taken with, handed on as one.
What a forward pass changes in a network, kept to be put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn

from striate.data.dataset import Split
from striate.data.loader import batch_bounds
from striate.data.normalize import Normalize
from striate.training.at_step import at_step
from striate.training.config import Config
from striate.training.deadline import InTime
from striate.training.objective import Objective
from striate.training.processes.group import ALONE, Processes
from striate.training.processes.parts import whole_for_mixing
from striate.training.schedules import learning_rate_factor
from striate.training.state import TrainingState


class KeptBuffers:
    """Buffers of networks as they were before a step: what a forward pass changes (statistics of normalizations)."""

    def __init__(self, modules: Iterable[nn.Module | None]) -> None:
        parts = [part for module in modules if module is not None for part in module.modules()]
        self._places = [(part, name) for part in parts for name, _ in part.named_buffers(recurse=False)]
        self._kept: list[torch.Tensor] = []

    @torch.no_grad()
    def take(self) -> None:
        """Copy them as they are now."""
        if not self._places:
            return
        now = [part._buffers[name] for part, name in self._places]
        tensors = [tensor for tensor in now if tensor is not None]
        if [(t.shape, t.dtype) for t in self._kept] == [(t.shape, t.dtype) for t in tensors]:
            torch._foreach_copy_(self._kept, tensors)
        else:
            self._kept = [tensor.clone() for tensor in tensors]

    @torch.no_grad()
    def put_back(self) -> None:
        """Make them what they were when they were taken."""
        now = [part._buffers[name] for part, name in self._places]
        for tensor, kept in zip([tensor for tensor in now if tensor is not None], self._kept, strict=True):
            tensor.copy_(kept)


@dataclass
class Setup:
    """All but the batch that a step needs, and an epoch's end. `config` is fully decided.

    Two fields change while training: `epoch`, from 0, and `config`, where memory runs out (`less_memory.py`) or steps
    do not take as long as expected (`in_time.py`).
    """

    state: TrainingState
    objective: Objective
    splits: Mapping[str, Split]
    config: Config
    normalize: Normalize
    processes: Processes = ALONE
    in_time: InTime | None = None
    epoch: int = 0

    @property
    def steps(self) -> int:
        """Of the whole training."""
        assert self.config.budget.steps is not None, "recipes decide it"
        return self.config.budget.steps

    @property
    def batch(self) -> int:
        """Samples of a whole batch."""
        assert self.config.batch is not None, "recipes decide it"
        return self.config.batch

    def for_step(self) -> Setup:
        """With the configuration of the next step."""
        config = at_step(self.config, self.state.step)
        return self if config is self.config else replace(self, config=config)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        config = at_step(self.config, self.state.step)
        assert config.optim.lr is not None, "recipes decide it"
        assert config.budget.steps is not None, "recipes decide it"
        return config.optim.lr * learning_rate_factor(config.schedule, self.state.step, config.budget.steps)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of the training split."""
        return len(batch_bounds(len(self.splits["train"]), self.batch))

    @property
    def epochs(self) -> int:
        """Of the whole training; the last may end early."""
        return -(-self.steps // self.steps_per_epoch)

    @property
    def epoch_end(self) -> int:
        """How many steps are done when the epoch is over."""
        return min(self.steps, (self.epoch + 1) * self.steps_per_epoch)

    @property
    def part(self) -> Callable[[int], tuple[int, int]] | None:
        """Which samples of a batch are read, from how many it has; None reads all."""
        return self.processes.part if self.processes.several and not whole_for_mixing(self.config) else None

    @cached_property
    def buffers(self) -> KeptBuffers:
        """What a step that is given up has to put back."""
        return KeptBuffers((self.state.module, self.state.heads))
