"""One training of a sweep: from a configuration to the validation metrics of the network that it would keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from time import perf_counter
from typing import Any

from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.errors import NonFiniteLoss
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.early_stop import best_epoch
from striate.training.execution import execution_settings, memory_explained
from striate.training.loop import training_events
from striate.training.prepare import Prepared, prepare_data, read_data
from striate.training.request import merge_request

ReadData = Callable[[Config], tuple[Config, Dataset]]


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of one training."""

    epochs: int
    """Epochs trained."""
    seed: int
    seconds: float
    """Wall-clock seconds."""
    val: dict[str, float]
    """Validation metrics of the epoch that is kept; empty where the training diverged."""
    score: float | None
    """One number, higher being better. None: the training diverged."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def without_test(announce: Callable[[str], None] | None = None) -> ReadData:
    """A function that reads the data of a configuration like `read_data`, but without the test split, so that nothing
    can be chosen by it. The fields `data.*` must be decided. The last two data sets stay in memory."""

    @lru_cache(maxsize=2)
    def read(source: DataConfig, task: str) -> tuple[DataConfig, Dataset]:
        request = Config(data=source)
        config, data = read_data(replace(request, task=replace(request.task, name=task)), announce)
        data.require_test("sweep")
        splits = {name: split for name, split in data.splits.items() if name != "test"}
        return config.data, replace(data, splits=splits)

    def read_for(config: Config) -> tuple[Config, Dataset]:
        decided, data = read(config.data, config.task.name)
        return replace(config, data=decided), data

    return read_for


def plan(config: Config, read: ReadData, epochs: int | None = None) -> Prepared:
    """The training of `config`, decided but not begun; with other `epochs` if given. Raises StriateError."""
    if epochs is not None:
        config = merge_request(config, epochs=epochs, fields={})
    with memory_explained(config):
        with_data, data = read(config)
        return prepare_data(with_data, data, request=config)


def train_once(prepared: Prepared) -> TrainingOutcome:
    """Train to the end, and keep only the metrics. Raises TrainingError where memory runs out."""
    config, state = prepared.config, prepared.state
    epochs = config.budget.epochs
    assert epochs is not None, "prepare decides it"
    started = perf_counter()
    try:
        with execution_settings(config), memory_explained(config):
            for _ in training_events(state, prepared.objective, prepared.splits, config, prepared.normalize):
                pass
    except NonFiniteLoss:
        return TrainingOutcome(epochs, config.seed, perf_counter() - started, {}, None)
    kept = -1 if config.keep == "last" else best_epoch(state.history, prepared.task) - 1
    val = state.history[kept].val
    score = as_number(prepared.task, val, len(prepared.splits["val"]))
    return TrainingOutcome(epochs, config.seed, perf_counter() - started, val, score)


def as_number(task: Task, val: dict[str, float], samples: int) -> float:
    """The score of the task as one number in the same order: what decides between equals counts less than half of one
    of `samples`."""
    first, *rest = task.score(val)
    return first + sum(value / (1 + abs(value)) for value in rest) / (2 * samples)
