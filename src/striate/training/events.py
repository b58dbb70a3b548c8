"""What the loop says as it goes: plain records. The progress bar, files and pages are readers of this stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from striate.training.config import Config
from striate.wording import duration, several, short_number


@dataclass(frozen=True)
class StepDone:
    """One optimizer step. `step` counts from 1 to `steps`; `loss` is a scalar tensor that stays on its device, so
    that whoever does not look at it does not wait for it."""

    step: int
    steps: int
    epoch: int
    loss: torch.Tensor
    lr: float
    samples: int


@dataclass(frozen=True)
class EpochRow:
    """One row of metrics.csv. `train` is measured on augmented batches while the weights change; `val` after the
    epoch in eval mode. `seconds` of training; `samples` seen in them. `data_wait`: the share of these seconds, 0 to 1,
    in which steps waited for data; `augment_share`: that in which their inputs were augmented, standardized and
    blended, None on an accelerator, which does that while the host goes on, and where it was not measured.
    `skipped_steps`: of fp16, those that left the weights alone, since the loss was scaled too high for their gradient;
    None in other precisions."""

    epoch: int
    step: int
    lr: float
    train: dict[str, float]
    val: dict[str, float]
    seconds: float
    samples: int
    data_wait: float | None = None
    augment_share: float | None = None
    skipped_steps: int | None = None

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
    """An epoch (or the rest of the budget) is over; `best` when no earlier epoch was better on validation. `passes`
    over the training samples until here, and `epochs` of the whole training: fractions where the budget ends within
    one."""

    row: EpochRow
    passes: float
    epochs: float
    best: bool
    finished: bool = field(default=False)

    @property
    def place(self) -> str:
        """`3/12`; `9.6/9.6` where the budget ends within an epoch."""
        return f"{short_number(self.passes)}/{short_number(self.epochs)}"


@dataclass(frozen=True)
class MemoryRanOut:
    """Memory ran out in step `step` (from 1), or in the validation after it; it goes on with `samples` at once instead
    of `before`, and will from there on, as `config` says. `changed`: what is no longer the same to the bit."""

    what: Literal["training", "validation"]
    step: int
    before: int
    samples: int
    changed: tuple[str, ...]
    config: Config

    def __str__(self) -> str:
        whole = "validation continues" if self.what == "validation" else "the batch is computed again"
        place = f"step {self.step}" if self.what == "training" else f"validation after step {self.step}"
        return (
            f"memory ran out in {place} with {several(self.before, 'sample')} at once: from here on {whole} with "
            f"{self.samples} at once. Results are no longer bit-identical: {'; '.join(self.changed)}"
        )


@dataclass(frozen=True)
class StepsChanged:
    """After step `step` (from 1) the run has `steps` steps instead of `before`, so that it ends within `seconds` of the
    user's request, as `config` says."""

    step: int
    before: int
    steps: int
    seconds: float
    config: Config

    def __str__(self) -> str:
        pace = "slower" if self.steps < self.before else "faster"
        steps = f"{several(self.steps, 'step')} instead of {self.before:,}"
        return f"steps are {pace} than measured at the start: {steps}, to end within {duration(self.seconds)}"


ConfigChanged = MemoryRanOut | StepsChanged
"""What is another configuration from there on."""
Event = StepDone | EpochDone | ConfigChanged
