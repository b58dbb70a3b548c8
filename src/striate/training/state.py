"""All that changes while training, in one place that a checkpoint can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from striate.training.events import EpochRow


@dataclass
class TrainingState:
    """The network, its optimizer, and how far the run is. `tally` sums the epoch in progress."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[EpochRow] = field(default_factory=list)
    best_score: tuple[float, ...] | None = None
    tally: torch.Tensor | None = None
    epoch_seconds: float = 0.0
    epoch_samples: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors: what `restore` needs to go on bit for bit."""
        return {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": [asdict(row) for row in self.history],
            "best_score": None if self.best_score is None else list(self.best_score),
            "tally": self.tally,
            "epoch_seconds": self.epoch_seconds,
            "epoch_samples": self.epoch_samples,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Become the state that `to_dict` gave."""
        self.module.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]
        self.history = [EpochRow(**row) for row in saved["history"]]
        self.best_score = None if saved["best_score"] is None else tuple(saved["best_score"])
        self.tally = saved["tally"]
        self.epoch_seconds, self.epoch_samples = saved["epoch_seconds"], saved["epoch_samples"]
