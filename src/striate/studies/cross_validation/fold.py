"""One fold: trained on its own part, measured once on what was held out.

Which samples a fold holds out follows from `data.split_seed`, its training from `seed`. On a terminal the fold in
progress is one line, gone when the fold is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from striate.data.counter_random import hash_key
from striate.evaluation.evaluate import evaluate_trained
from striate.tasks.task import Task
from striate.training.early_stop import best_epoch
from striate.training.events import EpochDone, Event
from striate.training.execution import execution_settings, measured_at_once
from striate.training.late_fusion import fit_fusion
from striate.training.loop import training_events
from striate.training.prepare import Prepared
from striate.training.progress import describe_row


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What one fold gave. `repeat` and `fold` count from 1.

    `metrics` are those of the held-out samples, with the keys of a split in metrics.json; `ids` and `decoded` these
    samples and their predictions, as in an `Evaluation`. `history` has a row an epoch, as in metrics.csv.
    `baselines` maps the name of each method to its metrics on the same samples, once they are fitted.
    """

    repeat: int
    fold: int
    seed: int
    n_train: int
    n_val: int
    best_epoch: int
    seconds: float
    metrics: Mapping[str, Any]
    history: tuple[Mapping[str, float | None], ...]
    ids: NDArray[np.int64]
    decoded: NDArray[Any]
    baselines: Mapping[str, Mapping[str, Any]]

    def settled(self, task: Task) -> Task:
        """The task with what validation decided in the epoch that is kept."""
        kept = next(row for row in self.history if row["epoch"] == self.best_epoch)
        known = {key: value for key, value in kept.items() if value is not None}
        return task.settled({key.removeprefix("val_"): known[key] for key in known if key.startswith("val_")})

    def row(self) -> dict[str, Any]:
        """Its row of cv.csv."""
        numbers = {key: value for key, value in self.metrics.items() if isinstance(value, int | float) or value is None}
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
    """Train to the end of the budget and measure the network that `keep` names on the split `test`, which is what is
    held out. `repeat` and `fold` count from 1; `read` sees every event and may raise. Raises NonFiniteLoss, ModelError.
    """
    state, config = prepared.state, prepared.config
    kept: dict[str, Any] = {}
    with execution_settings(config):
        events = training_events(state, prepared.objective, prepared.splits, config, prepared.normalize)
        for event in events:
            read(event)
            if isinstance(event, EpochDone) and event.best and config.keep == "best":
                kept = {name: tensor.clone() for name, tensor in state.answering.state_dict().items()}
        if kept:
            state.answering.load_state_dict(kept)
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
    """Of the folds of one repeat, counted from 0."""
    return hash_key(split_seed, repeat, 0) & _32_BITS


def validation_seed(split_seed: int, repeat: int, fold: int) -> int:
    """Of the validation part of one fold."""
    return hash_key(split_seed, repeat, fold, 1)


def training_seed(seed: int, repeat: int, fold: int) -> int:
    """Of initialization, order, augmentation and dropout of one fold."""
    return hash_key(seed, repeat, fold, 2) & _32_BITS


@contextmanager
def fold_progress(console: Console | None, where: str) -> Iterator[Callable[[Event], None]]:
    """A reader of events that shows the newest epoch of the fold `where`; nothing where `console` is no terminal."""
    if console is None or not console.is_terminal:
        yield lambda _: None
        return
    with console.status(where) as status:

        def read(event: Event) -> None:
            if isinstance(event, EpochDone):
                status.update(f"{where}: epoch {event.row.epoch}/{event.epochs}  {describe_row(event.row)}")

        yield read
