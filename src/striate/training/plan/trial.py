"""Trial steps of a training on copies of its network, and the samples that fit into memory at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import perf_counter

import torch

from striate.data.dataset import Split
from striate.data.loader import Batch, batches
from striate.data.normalize import Normalize
from striate.tasks.task import Task
from striate.training.budget.speed import trial_state
from striate.training.config import Config
from striate.training.execution import make_scaler, place, speed_settings
from striate.training.objective import Objective
from striate.training.optimizers import set_learning_rate
from striate.training.plan.plan_table import Candidate
from striate.training.refusals import fewest_at_once
from striate.training.setup import Setup
from striate.training.state import TrainingState
from striate.training.step import training_step


@dataclass(frozen=True)
class Workload:
    """The training that a plan is made for, as it would be computed without one."""

    state: TrainingState
    """The state before the first step."""
    task: Task
    train: Split
    """The training samples."""
    config: Config
    """The configuration without a plan."""
    normalize: Normalize
    """From a raw batch to the input of the network."""
    steps: int | None = None
    """Optimizer steps in all. None: `seconds` are known instead."""
    seconds: float | None = None
    """Wall-clock seconds of the run. None: `steps` are known instead."""
    threads: int = 1
    """The most threads that a step may use."""


@dataclass
class Trials:
    """Runs steps of a workload on copies of its network: one copy for each memory format and mode of compiling, since
    threads and precision can change between the steps of a copy."""

    work: Workload
    samples: int
    """Samples of each step, at most the run's batch."""
    _states: dict[tuple[str, str], TrainingState] = field(default_factory=dict)
    _batch: Batch | None = None
    _trimmed: bool = True

    @property
    def batch(self) -> Batch:
        """A copy of the first batch of the first epoch, or of its first samples; a step may change it."""
        if self._batch is None:
            train, seed = self.work.train, self.work.config.seed
            order = self.work.task.epoch_order(train.targets, seed, 0)
            (self._batch,) = batches(train, self.samples, order=order, stop=1)
        raw = self._batch
        return Batch(raw.inputs.clone(), raw.targets.clone(), raw.ids)

    def with_samples(self, samples: int) -> Trials:
        """The same copies, with another number of samples per step."""
        return Trials(self.work, samples, self._states)

    def config(self, candidate: Candidate) -> Config:
        """The configuration of the workload with this candidate, with images of their full size."""
        config = candidate.config(self.work.config)
        return replace(config, budget=config.budget.of(None))

    def state(self, candidate: Candidate) -> TrainingState:
        """The copy on which steps of this candidate run; its weights never change. Raises ModelError where the network
        cannot be copied."""
        key = candidate.memory_format, candidate.compile
        if key not in self._states:
            config = self.config(candidate)
            state = trial_state(self.work.state, config)
            place(state.module, config, self.batch.inputs.device)
            state.module.train()
            # The time of a step does not depend on the rate, and at the peak rate the network may diverge.
            set_learning_rate(state.optimizer, 0.0)
            self._states[key] = state
        state = self._states[key]
        if (candidate.precision == "fp16") != (state.scaler is not None):
            state.scaler = make_scaler(self.config(candidate))
        return state

    def seconds(self, candidate: Candidate, count: int) -> float:
        """Seconds of `count` steps in a row. Raises what the network raises."""
        config = self.config(candidate)
        with speed_settings(config):
            if candidate.allocator == "keep" and self._trimmed:
                self._steps(candidate, config, 1)  # there is no freed memory yet to reuse
            started = perf_counter()
            self._steps(candidate, config, count)
            elapsed = perf_counter() - started
        self._trimmed = candidate.allocator != "keep"
        return elapsed

    def _steps(self, candidate: Candidate, config: Config, count: int) -> None:
        state = self.state(candidate)
        splits = {"train": self.work.train}
        setup = Setup(state, Objective(self.work.task, config, state.heads), splits, config, self.work.normalize)
        for _ in range(count):
            loss, _ = training_step(setup, self.batch)
        float(loss)  # wait for an accelerator

    def forget(self, candidate: Candidate) -> None:
        """Free the copy of this candidate."""
        self._states.pop((candidate.memory_format, candidate.compile), None)


def fitting(work: Workload, plain: Candidate) -> Workload:
    """The workload, with `execution.micro_batch` where a plain step of its whole batch does not fit into the memory of
    a GPU: half of the batch, or a quarter, and so on, at least 1, or 2 with batch normalization. Unchanged where the
    user chose a size, where nothing fits, and on a CPU, whose system ends a process rather than refusing it memory."""
    config, batch = work.config, min(work.config.batch or 1, len(work.train))
    if config.execution.micro_batch is not None or work.task.compares_samples or on_cpu(work):
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


def on_cpu(work: Workload) -> bool:
    """Whether the workload runs on the CPU."""
    return torch.device(work.config.execution.device or "cpu").type == "cpu"
