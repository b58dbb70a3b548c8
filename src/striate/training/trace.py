"""A trace of the steps between two checkpoints: enough for a replay to say where it parts from the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

_FOLDED = 256  # losses that wait on an accelerator until they are brought over together


@dataclass
class Trace:
    """The loss of each step after step `begin`, and sums over the weights after 1, 2, 4, 8, … of them.

    A loss is a function of all weights before its step, so the first one that differs tells the step; the sums tell the
    layers. They are taken of the bits, as integers: the last bit of one weight changes them. To sum at each step would
    take a tenth of the time of a small network.
    """

    begin: int
    losses: list[float] = field(default_factory=list)
    sums: dict[int, torch.Tensor] = field(default_factory=dict)
    _waiting: list[torch.Tensor] = field(default_factory=list)

    def add(self, step: int, loss: torch.Tensor, module: nn.Module) -> None:
        """Take note of `step`, which is over: its scalar `loss`, and `module` as it has become."""
        if loss.device.type == "cpu":
            self.losses.append(loss.item())
        else:
            self._waiting.append(loss)
            if len(self._waiting) >= _FOLDED:
                self.fold()
        done = step - self.begin
        if done & (done - 1) == 0:
            self.sums[step] = weight_sums(module)

    def fold(self) -> None:
        """Bring over what waits on an accelerator."""
        if self._waiting:
            self.losses += torch.stack(self._waiting).tolist()
            self._waiting = []

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for a checkpoint."""
        self.fold()
        sums = {step: values.cpu() for step, values in self.sums.items()}
        return {"begin": self.begin, "losses": torch.tensor(self.losses, dtype=torch.float64), "sums": sums}


def trace_from_dict(saved: Mapping[str, Any]) -> Trace:
    """The trace that `to_dict` gave."""
    return Trace(saved["begin"], saved["losses"].tolist(), dict(saved["sums"]))


@torch.no_grad()
def weight_sums(module: nn.Module) -> torch.Tensor:
    """(T,) int64: of each tensor of the state_dict, in its order, the sum of its bits, read as integers of 1 to 8
    bytes, modulo 2^64."""
    sums = [bits(tensor).sum(dtype=torch.int64) for tensor in module.state_dict().values()]
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.int64)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's memory read as integers: equal where every bit is, also of NaN."""
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return real.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[real.element_size()])
