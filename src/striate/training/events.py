"""The records that the training loop yields. The progress bar, files and pages read this stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from striate.training.config import Config
from striate.wording import duration, several, short_number


@dataclass(frozen=True)
class StepDone:
    """One optimizer step is over."""

    step: int
    """Number of the step, from 1 to `steps`."""
    steps: int
    """Steps of the whole training, as planned now."""
    epoch: int
    """The epoch it belongs to, from 1."""
    loss: torch.Tensor
    """Scalar, on the device of the network: a reader that never reads its value does not wait for the device."""
    lr: float
    """The learning rate of the step."""
    samples: int
    """Samples in its batch, over all processes."""


@dataclass(frozen=True)
class EpochRow:
    """One row of metrics.csv."""

    epoch: int
    """From 1."""
    step: int
    """Optimizer steps done at its end."""
    lr: float
    """The learning rate of its last step."""
    train: dict[str, float]
    """Metrics by name, on augmented batches while the weights change."""
    val: dict[str, float]
    """Metrics by name, in eval mode after the epoch."""
    seconds: float
    """Seconds of training."""
    samples: int
    """Training samples seen."""
    data_wait: float | None = None
    """Share of `seconds`, 0 to 1, in which steps waited for data. None: not measured."""
    augment_share: float | None = None
    """Share of `seconds`, 0 to 1, in which inputs were augmented, standardized and blended. None: not measured, as on
    an accelerator, where the host continues meanwhile."""
    skipped_steps: int | None = None
    """Steps of `fp16` that changed no weight, since a gradient overflowed at this scale of the loss. None in other
    precisions."""

    def flat(self) -> dict[str, float | int | None]:
        """Column name to value, in the order of the file."""
        row: dict[str, float | int | None] = {"epoch": self.epoch, "step": self.step, "lr": self.lr}
        row |= {f"train_{k}": v for k, v in self.train.items()}
        row |= {f"val_{k}": v for k, v in self.val.items()}
        speed = self.samples / self.seconds if self.seconds > 0 else 0.0
        row |= {"seconds": round(self.seconds, 4), "images_per_second": round(speed, 1)}
        row |= {"data_wait": _share(self.data_wait), "augment_share": _share(self.augment_share)}
        return row if self.skipped_steps is None else row | {"skipped_steps": self.skipped_steps}


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


@dataclass(frozen=True)
class EpochDone:
    """An epoch, or the rest of the budget, is over."""

    row: EpochRow
    """Its row of metrics.csv."""
    passes: float
    """Passes over the training samples so far; a fraction where the budget ends within an epoch."""
    epochs: float
    """Passes of the whole training; a fraction where the budget ends within an epoch."""
    best: bool
    """Whether this epoch's network is the result so far: no earlier epoch is better on validation, or `keep` is
    "last"."""
    finished: bool = field(default=False)
    """Whether training ends here."""

    @property
    def place(self) -> str:
        """`3/12`; `9.6/9.6` where the budget ends within an epoch."""
        return f"{short_number(self.passes)}/{short_number(self.epochs)}"


@dataclass(frozen=True)
class MemoryRanOut:
    """Memory ran out, and training continues with fewer samples at once."""

    what: Literal["training", "validation"]
    """Whether a training step or a validation ran out of memory."""
    step: int
    """The step, from 1, in which memory ran out; for validation, the step before it."""
    before: int
    """Samples at once until then."""
    samples: int
    """Samples at once from there on."""
    changed: tuple[str, ...]
    """What is no longer identical to the bit, a phrase each."""
    config: Config
    """The configuration from there on."""

    def __str__(self) -> str:
        whole = "validation continues" if self.what == "validation" else "the batch is computed again"
        place = f"step {self.step}" if self.what == "training" else f"validation after step {self.step}"
        return (
            f"memory ran out in {place} with {several(self.before, 'sample')} at once: from here on {whole} with "
            f"{self.samples} at once. Results are no longer bit-identical: {'; '.join(self.changed)}"
        )


@dataclass(frozen=True)
class StepsChanged:
    """The run has another number of steps from here on, so that it meets its deadline."""

    step: int
    """Steps done so far."""
    before: int
    """Planned steps until then."""
    steps: int
    """Planned steps from there on."""
    seconds: float
    """The deadline, in seconds after the request."""
    config: Config
    """The configuration from there on."""

    def __str__(self) -> str:
        pace = "slower" if self.steps < self.before else "faster"
        steps = f"{several(self.steps, 'step')} instead of {self.before:,}"
        return f"steps are {pace} than measured at the start: {steps}, to end within {duration(self.seconds)}"


ConfigChanged = MemoryRanOut | StepsChanged
"""Events with a configuration that replaces the run's."""
Event = StepDone | EpochDone | ConfigChanged
