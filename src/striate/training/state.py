"""All that changes while training, in one place that a checkpoint can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from striate.training.auxiliary import AuxiliaryHeads
from striate.training.events import EpochRow


@dataclass
class TrainingState:
    """The network, its optimizer, and how far the run is. `tally` sums the epoch in progress.

    `average` is the moving average of the weights, if there is one; `heads` are the auxiliary heads, which only
    training has.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None = None
    heads: AuxiliaryHeads | None = None
    step: int = 0
    history: list[EpochRow] = field(default_factory=list)
    best_score: tuple[float, ...] | None = None
    tally: torch.Tensor | None = None
    epoch_seconds: float = 0.0
    epoch_samples: int = 0

    @property
    def answering(self) -> nn.Module:
        """The network that is measured and that answers: the average where there is one."""
        return self.module if self.average is None else self.average.module

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors: what `restore` needs to go on bit for bit."""
        saved = {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": [asdict(row) for row in self.history],
            "best_score": None if self.best_score is None else list(self.best_score),
            "tally": self.tally,
            "epoch_seconds": self.epoch_seconds,
            "epoch_samples": self.epoch_samples,
        }
        if self.average is not None:
            saved["ema"] = self.average.module.state_dict()
        if self.heads is not None:
            saved["auxiliary"] = self.heads.state_dict()
        return saved

    def restore(self, saved: dict[str, Any]) -> None:
        """Become the state that `to_dict` gave."""
        self.module.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None:
            self.average.module.load_state_dict(saved["ema"])
            self.average.n_averaged.fill_(saved["step"])
        if self.heads is not None:
            self.heads.load_state_dict(saved["auxiliary"])
        self.step = saved["step"]
        self.history = [EpochRow(**row) for row in saved["history"]]
        self.best_score = None if saved["best_score"] is None else tuple(saved["best_score"])
        self.tally = saved["tally"]
        self.epoch_seconds, self.epoch_samples = saved["epoch_seconds"], saved["epoch_samples"]
