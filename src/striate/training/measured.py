"""What is measured during training, summed batch by batch, and the training samples that are measured after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from striate.data.dataset import Dataset, Split
from striate.tasks.accumulator import Accumulator, Sums
from striate.tasks.task import Task
from striate.training.config import Config
from striate.wording import percent

Saved = torch.Tensor | Mapping[str, Any]
"""Sums as a checkpoint holds them: one vector if all parts are plain sums, else the state of each part."""


class Measured:
    """The sums of what is measured.

    `own`: metrics of the network's outputs. `inner`: metrics of auxiliary classifiers, by layer. `rotation`: (2,)
    correct predictions of the rotation head, and all its samples. `hidden`: (2,) inactive hidden outputs, and all of
    them. Both are None where they are not in use. `followed`: for each quantity that the network `follows`, (2,) its
    sum and the samples.
    """

    def __init__(
        self, task: Task, layers: tuple[str, ...], *, rotates: bool, penalizes: bool, follows: tuple[str, ...] = ()
    ) -> None:
        self.task, self.layers, self.follows = task, layers, follows
        self.own = task.accumulator()
        self.inner = [task.accumulator() for _ in layers]
        self.rotation = _share_of("rotation_accuracy") if rotates else None
        self.hidden = _share_of("hidden_sparsity") if penalizes else None
        self.followed = [_share_of(name) for name in follows]

    def empty(self) -> Measured:
        """The same with empty sums."""
        rotates, penalizes = self.rotation is not None, self.hidden is not None
        return Measured(self.task, self.layers, rotates=rotates, penalizes=penalizes, follows=self.follows)

    @property
    def parts(self) -> list[Accumulator]:
        """All sums, in the order in which they are saved."""
        counted = (part for part in (self.rotation, self.hidden) if part is not None)
        return [self.own, *self.inner, *counted, *self.followed]

    @property
    def sums(self) -> list[Sums] | None:
        """All parts, if each is a plain sum; else None."""
        found = [part for part in self.parts if isinstance(part, Sums)]
        return found if len(found) == len(self.parts) else None

    def merge(self, other: Measured) -> None:
        """Add what was measured on other samples."""
        for part, more in zip(self.parts, other.parts, strict=True):
            part.merge(more)

    def vector(self) -> torch.Tensor | None:
        """(M,) float64: all sums in a row; None where a part is not a plain sum, or nothing was measured."""
        sums = self.sums
        totals = [] if sums is None else [part.total for part in sums if part.total is not None]
        if not totals:
            return None
        return totals[0] if len(totals) == 1 else torch.cat(totals)

    def load_vector(self, vector: torch.Tensor) -> None:
        """Load what `vector` returned."""
        sums = self.sums
        assert sums is not None, "only sums are one vector"
        fixed = [2] * (len(sums) - 1 - len(self.inner))
        own = (len(vector) - sum(fixed)) // (1 + len(self.inner))
        for part, total in zip(sums, vector.split([own] * (1 + len(self.inner)) + fixed), strict=True):
            part.total = total

    def saved(self) -> Saved:
        """The sums for a checkpoint."""
        vector = self.vector()
        return {str(k): part.state_dict() for k, part in enumerate(self.parts)} if vector is None else vector

    def load(self, saved: Saved) -> None:
        """Load what `saved` returned."""
        if isinstance(saved, torch.Tensor):
            self.load_vector(saved)
        else:
            for k, part in enumerate(self.parts):
                part.load_state_dict(saved[str(k)])

    def compute(self) -> dict[str, float]:
        """The task's epoch metrics, then, where they are in use, `<layer>_<headline>`, `rotation_accuracy`,
        `hidden_sparsity` (share of inactive hidden outputs), and the quantities that the network follows."""
        metrics, headline = self.own.compute(), self.task.headline
        for layer, part in zip(self.layers, self.inner, strict=True):
            found = part.compute()
            if headline in found:  # a metric that is not a sum is not measured on training batches
                metrics[f"{layer}_{headline}"] = found[headline]
        for counts in (self.rotation, self.hidden, *self.followed):
            if counts is not None:
                metrics |= counts.compute()
        return metrics


def _share_of(name: str) -> Sums:
    def share(total: torch.Tensor) -> dict[str, float]:
        part, whole = total.tolist()
        return {name: part / whole}

    def nothing(*_: object) -> torch.Tensor:
        raise AssertionError("counted elsewhere")

    return Sums(nothing, share)


WITHOUT_LABELS = "trained without labels (auxiliary.task 0), so predicted labels are chance"


def without_labels(config: Config, val: Mapping[str, float]) -> str | None:
    """A sentence about a training without labels: what it learned, by the validation metrics of its epoch. None for
    other trainings."""
    if config.auxiliary.task:
        return None
    turns = f"{percent(val['rotation_accuracy'], 2)} of validation images (rotation_accuracy; 25 % by chance)"
    return f"{WITHOUT_LABELS}; the network learned the rotation of images: right for {turns}"


def measured_count(samples: int, config: Config) -> int:
    """How many of `samples` training samples are measured after training."""
    return min(samples, config.evaluation.train_samples or samples)


def watched_count(samples: int, config: Config) -> int:
    """How many of `samples` validation samples are measured after each epoch."""
    return min(samples, config.evaluation.val_samples or samples)


def watched_part(val: Split, config: Config) -> Split:
    """The `evaluation.val_samples` validation samples, evenly spaced, that are measured after each epoch."""
    count = watched_count(len(val), config)
    return val if count == len(val) else val.take(torch.arange(count) * len(val) // count)


def measured_part(data: Dataset, config: Config) -> Dataset:
    """The data with only the training samples that are measured after training: `evaluation.train_samples`, evenly
    spaced."""
    train = data.splits["train"]
    count = measured_count(len(train), config)
    if count == len(train):
        return data
    rows = torch.arange(count) * len(train) // count
    facts = {name: known.part(rows.tolist()) if name == "train" else known for name, known in data.facts.items()}
    return replace(data, splits=data.splits | {"train": train.take(rows)}, facts=facts)
