"""All that changes while training, in one place that a checkpoint can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from striate.training.auxiliary import AuxiliaryHeads
from striate.training.average import MovingAverage
from striate.training.events import EpochRow
from striate.training.measured import Measured, Saved


class Restores(Protocol):
    """What knows how a checkpoint's measurements are read: the objective."""

    def restored(self, saved: Saved) -> Measured:
        """Of an epoch in progress."""
        ...


@dataclass
class TrainingState:
    """The network, its optimizer, and how far the run is. `tally` and the fields of `epoch_…` sum the epoch in
    progress: seconds in all, those in which steps waited for data, and those in which inputs were prepared.

    `average` is the moving average of the weights, if there is one; `heads` are the auxiliary heads, which only
    training has; `scaler` scales the loss of `fp16`, from the first step on; `skipped` counts the steps of the epoch
    that it left out. `elapsed` is the wall-clock time in seconds since the run was asked for, without the pauses in
    which it was interrupted. `fault` and `unscaled` belong to `mark_nonfinite`; no checkpoint has them.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None = None
    heads: AuxiliaryHeads | None = None
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    history: list[EpochRow] = field(default_factory=list)
    best_score: tuple[float, ...] | None = None
    tally: Measured | Saved | None = None
    epoch_seconds: float = 0.0
    epoch_wait: float = 0.0
    epoch_augment: float = 0.0
    epoch_samples: int = 0
    skipped: torch.Tensor | None = None
    elapsed: float = 0.0
    fault: torch.Tensor | None = None
    unscaled: torch.Tensor | None = None
    gathered: dict[str, Any] | None = None
    """What `to_dict` gives where the network is spread over several processes, which have gathered it."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.module.parameters()).device

    @property
    def answering(self) -> nn.Module:
        """The network that is evaluated and predicts: the average where there is one."""
        return self.module if self.average is None else self.average.module

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors: what `restore` needs to go on bit for bit."""
        if self.gathered is not None:
            return self.gathered
        saved = {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": [asdict(row) for row in self.history],
            "best_score": None if self.best_score is None else list(self.best_score),
            "tally": self.tally.saved() if isinstance(self.tally, Measured) else self.tally,
            "epoch_seconds": self.epoch_seconds,
            "epoch_wait": self.epoch_wait,
            "epoch_augment": self.epoch_augment,
            "epoch_samples": self.epoch_samples,
            "elapsed": self.elapsed,
        }
        if self.average is not None:
            saved["ema"] = self.average.module.state_dict()
        if self.heads is not None:
            saved["auxiliary"] = self.heads.state_dict()
        if self.skipped is not None:
            saved["skipped"] = self.skipped
        if self.scaler is not None:
            saved["scaler"] = self.scaler.state_dict()
        return saved

    def restore(self, saved: dict[str, Any]) -> None:
        """Become the state that `to_dict` gave."""
        self.module.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        _lay_out_as_parameters(self.optimizer)
        if self.average is not None:
            self.average.module.load_state_dict(saved["ema"])
            self.average.count = saved["step"]
        if self.heads is not None:
            self.heads.load_state_dict(saved["auxiliary"])
        if "scaler" in saved:
            self.scaler = torch.amp.GradScaler(next(self.module.parameters()).device.type)
            self.scaler.load_state_dict(saved["scaler"])
        self.step = saved["step"]
        self.history = [EpochRow(**row) for row in saved["history"]]
        self.best_score = None if saved["best_score"] is None else tuple(saved["best_score"])
        self.tally = saved["tally"]
        self.epoch_seconds, self.epoch_samples = saved["epoch_seconds"], saved["epoch_samples"]
        self.epoch_wait, self.epoch_augment = saved["epoch_wait"], saved["epoch_augment"]
        self.skipped = saved.get("skipped")
        self.elapsed += saved["elapsed"]

    def begin(self, objective: Restores) -> None:
        """Take up what a checkpoint holds of the epoch in progress, if it does."""
        if self.tally is not None and not isinstance(self.tally, Measured):
            self.tally = objective.restored(self.tally)

    def count_step(self, measured: Measured, samples: int) -> None:
        """A step is over, of so many samples."""
        if isinstance(self.tally, Measured):
            self.tally.merge(measured)
        else:
            self.tally = measured
        self.step += 1
        self.epoch_samples += samples

    def begin_epoch(self) -> None:
        """Nothing summed yet."""
        self.tally, self.epoch_samples, self.skipped = None, 0, None
        self.epoch_seconds = self.epoch_wait = self.epoch_augment = 0.0


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Fused optimizers read all tensors in the order of memory: in another layout than its parameter's, an average of
    gradients would belong to other weights."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)
