"""Everything that the steps of a training need, as one object, and the configuration that holds at a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from striate.data.dataset import Split
from striate.data.loader import Batch, batch_bounds, batches
from striate.data.normalize import Normalize
from striate.training.config import BudgetConfig, Config, ExecutionConfig
from striate.training.events import StepsChanged
from striate.training.objective import Objective
from striate.training.optimizers import learning_rate_factor
from striate.training.processes.fixed_parts import FixedParts, in_fixed_parts
from striate.training.processes.group import ALONE, Processes, prepares_whole_batches
from striate.training.state import TrainingState


def at_step(config: Config, step: int) -> Config:
    """The configuration at `step`, from 0: with the parts in which batches are computed then, and the steps of the
    schedule."""
    execution, budget = _parts_at(config.execution, step), _budget_at(config.budget, step)
    if execution is config.execution and budget is config.budget:
        return config
    return replace(config, execution=execution, budget=budget)


def _parts_at(execution: ExecutionConfig, step: int) -> ExecutionConfig:
    if not execution.micro_batch_from:
        return execution
    parts = [samples for first, samples in execution.micro_batch_from if first <= step]
    micro_batch = parts[-1] if parts else execution.micro_batch
    return replace(execution, micro_batch=micro_batch, micro_batch_from=())


def _budget_at(budget: BudgetConfig, step: int) -> BudgetConfig:
    if not budget.steps_before:
        return budget
    return budget.of(next((steps for end, steps in budget.steps_before if step < end), budget.steps))


class ChangesSteps(Protocol):
    """Changes the number of steps so that a run meets its deadline: implemented in `deadline.py`."""

    def change(self, config: Config, step: int, elapsed: float) -> StepsChanged | None:
        """The change when `step` steps are done, `elapsed` seconds after the user's request; None where nothing
        changes."""
        ...


@dataclass
class Setup:
    """Everything that a step and the end of an epoch need, except the batch."""

    state: TrainingState
    objective: Objective
    """What is minimized."""
    splits: Mapping[str, Split]
    config: Config
    """The decided configuration. It changes where memory runs out, or where the run would miss its deadline
    (`guards.py`)."""
    normalize: Normalize
    """From a raw batch to the input of the network."""
    processes: Processes = ALONE
    """The processes that share each batch."""
    deadline: ChangesSteps | None = None
    """Changes the number of steps. None: the run has no deadline."""
    epoch: int = 0
    """The current epoch, from 0."""

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        assert self.config.budget.steps is not None, "recipes decide it"
        return self.config.budget.steps

    @property
    def batch(self) -> int:
        """Samples of a whole batch."""
        assert self.config.batch is not None, "recipes decide it"
        return self.config.batch

    def for_step(self) -> Setup:
        """The same with the configuration of the next step."""
        config = at_step(self.config, self.state.step)
        return self if config is self.config else replace(self, config=config)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        config = at_step(self.config, self.state.step)
        assert config.optim.lr is not None, "recipes decide it"
        assert config.budget.steps is not None, "recipes decide it"
        return config.optim.lr * learning_rate_factor(config.schedule, self.state.step, config.budget.steps)

    @cached_property
    def epoch_steps(self) -> int:
        """Batches of the training split."""
        return len(batch_bounds(len(self.splits["train"]), self.batch))

    @property
    def epochs(self) -> int:
        """Epochs of the whole training; the last may end early."""
        return -(-self.steps // self.epoch_steps)

    @property
    def epoch_end(self) -> int:
        """Steps that are done when the epoch is over."""
        return min(self.steps, (self.epoch + 1) * self.epoch_steps)

    @property
    def part(self) -> Callable[[int], tuple[int, int]] | None:
        """Which samples of a batch this process reads, as a function of their number; None: all."""
        if not self.processes.several or prepares_whole_batches(self.config):
            return None
        if in_fixed_parts(self.config):
            return lambda samples: FixedParts.of(samples, self.config, self.processes).read()
        return self.processes.part

    def batches(self, first: int, stop: int) -> Iterator[Batch]:
        """The batches of the steps `first` to `stop` (excluded) of the epoch; steps count from 0 over the training."""
        train, begin = self.splits["train"], self.epoch * self.epoch_steps
        order = self.objective.task.epoch_order(train.targets, self.config.seed, self.epoch)
        return batches(train, self.batch, order=order, part=self.part, first=first - begin, stop=stop - begin)

    def batch_of(self, step: int) -> Batch:
        """The batch of one step of the epoch, read again."""
        (batch,) = self.batches(step, step + 1)
        return batch
