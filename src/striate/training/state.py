"""Everything that changes during training, in one place that a checkpoint can hold."""

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
    """Reads the measurements of a checkpoint: implemented by `Objective`."""

    def restored(self, saved: Saved) -> Measured:
        """The measurements of the epoch in progress."""
        ...


@dataclass
class TrainingState:
    """The network, its optimizer, and the progress of the run."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None = None
    """The moving average of the weights. None: `optim.ema` is 0."""
    heads: AuxiliaryHeads | None = None
    """The auxiliary heads, which exist during training only. None: the run has none."""
    scaler: torch.amp.GradScaler | None = None
    """Scales the loss of `fp16`; made at the first step. None in other precisions."""
    step: int = 0
    """Optimizer steps done."""
    history: list[EpochRow] = field(default_factory=list)
    """One row per finished epoch."""
    best_score: tuple[float, ...] | None = None
    """The task's score of the best epoch so far. None before the first epoch ends."""
    tally: Measured | Saved | None = None
    """Sums of what is measured on the training batches of the epoch in progress. None before its first step; after a
    resume, as saved, until `begin`."""
    epoch_seconds: float = 0.0
    """Seconds of training in this epoch."""
    epoch_wait: float = 0.0
    """Of these, seconds in which steps waited for data."""
    epoch_augment: float = 0.0
    """Of these, seconds in which inputs were prepared: augmented, standardized and blended."""
    epoch_samples: int = 0
    """Training samples seen in this epoch."""
    skipped: torch.Tensor | None = None
    """Scalar tensor: steps of this epoch that `scaler` skipped. None where no step was scaled."""
    elapsed: float = 0.0
    """Wall-clock seconds since the request, without the pauses between an interruption and a resume."""
    fault: torch.Tensor | None = None
    """Scalar tensor of `mark_nonfinite`: 1 once a gradient had NaN or Inf, else 0. No checkpoint holds it."""
    unscaled: torch.Tensor | None = None
    """Scalar tensor 1 that `mark_nonfinite` passes to torch. No checkpoint holds it."""
    gathered: dict[str, Any] | None = None
    """What `to_dict` returns where the network is sharded over several processes. None: not sharded."""

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.module.parameters()).device

    @property
    def eval_module(self) -> nn.Module:
        """The network that is evaluated and predicts: the average where there is one."""
        return self.module if self.average is None else self.average.module

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors from which `restore` continues bit for bit."""
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
        """Load the tally of the epoch in progress where a checkpoint holds one."""
        if self.tally is not None and not isinstance(self.tally, Measured):
            self.tally = objective.restored(self.tally)

    def count_step(self, measured: Measured, samples: int) -> None:
        """Count a finished step on so many `samples`."""
        if isinstance(self.tally, Measured):
            self.tally.merge(measured)
        else:
            self.tally = measured
        self.step += 1
        self.epoch_samples += samples

    def begin_epoch(self) -> None:
        """Reset all sums of an epoch."""
        self.tally, self.epoch_samples, self.skipped = None, 0, None
        self.epoch_seconds = self.epoch_wait = self.epoch_augment = 0.0


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer's averages the memory layout of their parameters: fused optimizers read tensors in the order
    of memory, and would pair each average with another weight."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)
