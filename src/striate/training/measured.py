"""What is measured while training, summed batch by batch, and which training samples are measured after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from striate.data.dataset import Dataset, Split
from striate.tasks.accumulator import Accumulator, Sums
from striate.tasks.task import Task
from striate.training.config import Config

Saved = torch.Tensor | Mapping[str, Any]
"""As a checkpoint holds it: one vector where everything is a sum, else the state of each part."""


class Measured:
    """`own`: of the network's outputs; `inner`: of auxiliary classifiers, by layer; `rotation` and `hidden`: (2,) hits
    of the rotation head and all of its samples, silent hidden outputs and all of them, where these are in use;
    `followed`: (2,) the sum of each quantity that the network `follows`, and the samples."""

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
        """Another one of its kind with nothing measured yet."""
        rotates, penalizes = self.rotation is not None, self.hidden is not None
        return Measured(self.task, self.layers, rotates=rotates, penalizes=penalizes, follows=self.follows)

    @property
    def parts(self) -> list[Accumulator]:
        """All of them, in the order in which they are saved."""
        counted = (part for part in (self.rotation, self.hidden) if part is not None)
        return [self.own, *self.inner, *counted, *self.followed]

    @property
    def sums(self) -> list[Sums] | None:
        """All of them, where each is a sum."""
        found = [part for part in self.parts if isinstance(part, Sums)]
        return found if len(found) == len(self.parts) else None

    def merge(self, other: Measured) -> None:
        """Take in what was measured of other samples."""
        for part, more in zip(self.parts, other.parts, strict=True):
            part.merge(more)

    def vector(self) -> torch.Tensor | None:
        """(M,) float64: all sums one after the other; None where some part is no sum, or nothing was measured."""
        sums = self.sums
        totals = [] if sums is None else [part.total for part in sums if part.total is not None]
        if not totals:
            return None
        return totals[0] if len(totals) == 1 else torch.cat(totals)

    def load_vector(self, vector: torch.Tensor) -> None:
        """Become what `vector` gave."""
        sums = self.sums
        assert sums is not None, "only sums are one vector"
        fixed = [2] * (len(sums) - 1 - len(self.inner))
        own = (len(vector) - sum(fixed)) // (1 + len(self.inner))
        for part, total in zip(sums, vector.split([own] * (1 + len(self.inner)) + fixed), strict=True):
            part.total = total

    def saved(self) -> Saved:
        """For a checkpoint."""
        vector = self.vector()
        return {str(k): part.state_dict() for k, part in enumerate(self.parts)} if vector is None else vector

    def load(self, saved: Saved) -> None:
        """Become what `saved` gave."""
        if isinstance(saved, torch.Tensor):
            self.load_vector(saved)
        else:
            for k, part in enumerate(self.parts):
                part.load_state_dict(saved[str(k)])

    def compute(self) -> dict[str, float]:
        """The task's epoch metrics, then `<layer>_<headline>`, `rotation_accuracy` and `hidden_sparsity` (the share of
        hidden outputs that are silent), as far as they are in use, and what the network follows."""
        metrics, headline = self.own.compute(), self.task.headline
        for layer, part in zip(self.layers, self.inner, strict=True):
            found = part.compute()
            if headline in found:  # a metric that is not a sum is not measured of what is learned from
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
    """A sentence on a training that learned no labels, with what it learned by the validation metrics of its epoch;
    None of any other."""
    if config.auxiliary.task:
        return None
    turns = f"{100 * val['rotation_accuracy']:.2f} % of validation images (rotation_accuracy; 25 % by chance)"
    return f"{WITHOUT_LABELS}; the network learned the rotation of images: right for {turns}"


def measured_count(samples: int, config: Config) -> int:
    """How many of so many training samples are measured."""
    return min(samples, config.evaluation.train_samples or samples)


def watched_count(samples: int, config: Config) -> int:
    """How many validation samples are measured after each epoch, of so many that there are."""
    return min(samples, config.evaluation.val_samples or samples)


def watched_part(val: Split, config: Config) -> Split:
    """The `evaluation.val_samples` validation samples, evenly spaced, that are measured after each epoch."""
    count = watched_count(len(val), config)
    return val if count == len(val) else val.take(torch.arange(count) * len(val) // count)


def measured_part(data: Dataset, config: Config) -> Dataset:
    """The data with `evaluation.train_samples` of the training samples, evenly spaced over them."""
    train = data.splits["train"]
    count = measured_count(len(train), config)
    if count == len(train):
        return data
    rows = torch.arange(count) * len(train) // count
    facts = {name: known.part(rows.tolist()) if name == "train" else known for name, known in data.facts.items()}
    return replace(data, splits=data.splits | {"train": train.take(rows)}, facts=facts)
