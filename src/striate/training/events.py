"""What the loop says as it goes: plain records. The progress bar, files and pages are readers of this stream."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


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
    blended, None on an accelerator, which does that while the host goes on, and where it was not measured."""

    epoch: int
    step: int
    lr: float
    train: dict[str, float]
    val: dict[str, float]
    seconds: float
    samples: int
    data_wait: float | None = None
    augment_share: float | None = None

    def flat(self) -> dict[str, float | int | None]:
        """Column name to value, in the order of the file."""
        row: dict[str, float | int | None] = {"epoch": self.epoch, "step": self.step, "lr": self.lr}
        row |= {f"train_{k}": v for k, v in self.train.items()}
        row |= {f"val_{k}": v for k, v in self.val.items()}
        speed = self.samples / self.seconds if self.seconds > 0 else 0.0
        row |= {"seconds": round(self.seconds, 4), "images_per_second": round(speed, 1)}
        return row | {"data_wait": _share(self.data_wait), "augment_share": _share(self.augment_share)}


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


@dataclass(frozen=True)
class EpochDone:
    """An epoch (or the rest of the budget) is over; `best` when no earlier epoch was better on validation."""

    row: EpochRow
    epochs: int
    best: bool
    finished: bool = field(default=False)


Event = StepDone | EpochDone
