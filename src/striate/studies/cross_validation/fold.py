"""One fold: a training, measured once on the samples that the fold holds out.

`data.split_seed` decides which samples a fold holds out, `seed` its training. On a terminal, one line shows the fold in
progress and disappears when the fold is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from striate.data.counter_random import hash_key
from striate.evaluation.evaluate import evaluate_trained
from striate.tasks.metric import Metric
from striate.tasks.task import Task
from striate.training.early_stop import best_epoch
from striate.training.events import EpochDone, Event
from striate.training.execution import execution_settings, measured_at_once
from striate.training.late_fusion import fit_fusion
from striate.training.loop import training_events
from striate.training.prepare import Prepared
from striate.training.progress import describe_row


def is_number(key: str, value: object) -> bool:
    """Whether this entry of the metrics is one number, or null for an undefined one; an interval is neither."""
    return isinstance(value, int | float) or (value is None and not key.endswith("_interval"))


@dataclass(frozen=True, eq=False)
class FoldResult:
    """The result of one fold."""

    repeat: int
    """From 1."""
    fold: int
    """From 1."""
    seed: int
    """Seed of its training."""
    n_train: int
    """Training samples."""
    n_val: int
    """Validation samples."""
    best_epoch: int
    """The epoch, from 1, whose network was measured."""
    seconds: float
    """Seconds of training."""
    metrics: Mapping[str, Any]
    """Metrics of the held-out samples, with the keys of a split in metrics.json."""
    history: tuple[Mapping[str, float | None], ...]
    """One row per epoch, as in metrics.csv."""
    ids: NDArray[np.int64]
    """(n,): the held-out samples, as positions in the listing of the source."""
    decoded: NDArray[Any]
    """(n, …): their predictions, as in an `Evaluation`."""
    baselines: Mapping[str, Mapping[str, Any]]
    """Metrics on the same samples by name of the method; empty until the baselines are fitted."""

    def settled(self, task: Task) -> Task:
        """The task with what validation decided, such as a threshold, in the best epoch."""
        kept = next(row for row in self.history if row["epoch"] == self.best_epoch)
        known = {key: value for key, value in kept.items() if value is not None}
        return task.settled({key.removeprefix("val_"): known[key] for key in known if key.startswith("val_")})

    def row(self) -> dict[str, Any]:
        """Its row of cv.csv."""
        numbers = {key: value for key, value in self.metrics.items() if is_number(key, value)}
        return {
            "repeat": self.repeat,
            "fold": self.fold,
            "n_train": self.n_train,
            "n_val": self.n_val,
            **numbers,
            "epochs": len(self.history),
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 3),
            "seed": self.seed,
        }


def train_fold(
    prepared: Prepared,
    *,
    repeat: int,
    fold: int,
    read: Callable[[Event], None],
) -> FoldResult:
    """Train to the end of the budget and measure the network that `keep` names on the held-out samples, the split
    `test`. `repeat` and `fold` count from 1; `read` gets every event and may raise. Raises NonFiniteLoss, ModelError.
    """
    state, config = prepared.state, prepared.config
    kept: dict[str, Any] = {}
    with execution_settings(config):
        events = training_events(state, prepared.objective, prepared.splits, config, prepared.normalize)
        for event in events:
            read(event)
            if isinstance(event, EpochDone) and event.best and config.keep == "best":
                kept = {name: tensor.clone() for name, tensor in state.eval_module.state_dict().items()}
        if kept:
            state.eval_module.load_state_dict(kept)
        number = state.history[-1].epoch if config.keep == "last" else best_epoch(state.history, prepared.task)
        val = next(row.val for row in state.history if row.epoch == number)
        prepared = replace(prepared, task=prepared.task.settled(val))
        fit_fusion(prepared)
        # In plain fp32: folds are compared with each other, to the last digit.
        evaluation = evaluate_trained(prepared.trained(), prepared.data, "test", batch=measured_at_once(config))
    return FoldResult(
        repeat=repeat,
        fold=fold,
        seed=config.seed,
        n_train=len(prepared.data.splits["train"]),
        n_val=len(prepared.data.splits["val"]),
        best_epoch=number,
        seconds=sum(row.seconds for row in state.history),
        metrics=evaluation.metrics,
        history=tuple(row.flat() for row in state.history),
        ids=evaluation.ids,
        decoded=evaluation.decoded,
        baselines={},
    )


_32_BITS = 0xFFFFFFFF


def dealing_seed(split_seed: int, repeat: int) -> int:
    """The seed that deals the folds of one repeat; `repeat` counts from 0."""
    return hash_key(split_seed, repeat, 0) & _32_BITS


def validation_seed(split_seed: int, repeat: int, fold: int) -> int:
    """The seed that draws the validation samples of one fold; both count from 0."""
    return hash_key(split_seed, repeat, fold, 1)


def training_seed(seed: int, repeat: int, fold: int) -> int:
    """The seed of initialization, order, augmentation and dropout of one fold; both count from 0."""
    return hash_key(seed, repeat, fold, 2) & _32_BITS


@contextmanager
def fold_progress(console: Console | None, where: str, metrics: Sequence[Metric]) -> Iterator[Callable[[Event], None]]:
    """A reader of events that shows the newest epoch of the fold `where` on a terminal, and nothing elsewhere.
    `metrics`: those of the task."""
    if console is None or not console.is_terminal:
        yield lambda _: None
        return
    with console.status(where) as status:

        def read(event: Event) -> None:
            if isinstance(event, EpochDone):
                status.update(f"{where}: epoch {event.row.epoch}/{event.epochs}  {describe_row(event.row, metrics)}")

        yield read
