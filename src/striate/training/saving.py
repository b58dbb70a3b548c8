"""Checkpoints written by a thread while training goes on, with a trace of the steps between two of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import torch
from torch import nn

from striate.runs.background import BackgroundWriter
from striate.runs.checkpoint import replace_checkpoint, save_checkpoint
from striate.runs.directory import RunDirectory

SHARE = 0.01
"""Of the time of a training at most, a core's: a large network takes seconds to save."""
EPOCHS_APART = 2.0
"""Seconds at least between two checkpoints, also at the ends of epochs: a table's takes milliseconds."""


class Saver:
    """Writes checkpoints of `run` in the background, at most every `seconds` and at the ends of epochs.

    The training only copies what is to be saved. What goes wrong in the background (a full disk) is raised by the next
    call; the checkpoint before is then still there.
    """

    def __init__(self, run: RunDirectory, seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self._writer = BackgroundWriter()
        self._saved, self._copying = monotonic(), 0.0

    def due(self, *, epoch_over: bool) -> bool:
        """Whether it is time for a checkpoint. Raises the error of the last one."""
        if self._writer.busy:
            return False
        apart = min(self._seconds, EPOCHS_APART) if epoch_over else self._seconds
        cost = self._copying + self._writer.seconds
        return monotonic() - self._saved >= max(apart, cost / SHARE)

    def save(self, last: dict[str, Any], best: dict[str, Any] | None) -> None:
        """Copy the state `last` and begin to write it, after `best`, if there is a new one, which must not change any
        more: last.pt never speaks of a best that is not on disk."""
        self._writer.wait()
        began = monotonic()
        content = copied(last)
        run, given_up = self._run, self._writer.given_up

        def write() -> None:
            if best is not None:
                save_checkpoint(run.best, best, given_up)
            replace_checkpoint(run.last, run.previous, content, given_up)

        self._writer.submit(write)
        self._saved = monotonic()
        self._copying = self._saved - began

    def wait(self) -> None:
        """Until what was saved is on disk. Raises RunError where it could not be written."""
        self._writer.wait()

    def give_up(self) -> None:
        """Leave what is being written; the checkpoint before stays."""
        self._writer.give_up()


def copied(value: Any) -> Any:
    """The value with its tensors copied to memory, so that training may go on in the original."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if value.device.type == "cpu" else value.detach().cpu()
    if isinstance(value, dict):
        shallow = copy.copy(value)  # of its own type: a state_dict carries the versions of its layers
        shallow.update({key: copied(part) for key, part in value.items()})
        return shallow
    return [copied(part) for part in value] if isinstance(value, list) else value


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
