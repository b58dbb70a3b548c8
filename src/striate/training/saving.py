"""Checkpoints, written by a thread while training continues, and a trace of the steps between two of them."""

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
"""Share of the time of a core that saving may take: a large network takes seconds to save."""
EPOCHS_APART = 2.0
"""Least seconds between two checkpoints at the ends of epochs: an epoch of a table takes milliseconds."""


class Saver:
    """Writes checkpoints of `run` in the background, at most every `seconds` and at the ends of epochs.

    Training only waits for a copy of the state. An error in the background, such as a full disk, is raised by the next
    call; the checkpoint before still exists.
    """

    def __init__(self, run: RunDirectory, seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self._writer = BackgroundWriter()
        self._saved, self._copying = monotonic(), 0.0

    def due(self, *, epoch_over: bool) -> bool:
        """Whether a checkpoint is due. Raises the error of the last one."""
        if self._writer.busy:
            return False
        apart = min(self._seconds, EPOCHS_APART) if epoch_over else self._seconds
        cost = self._copying + self._writer.seconds
        return monotonic() - self._saved >= max(apart, cost / SHARE)

    def save(self, last: dict[str, Any], best: dict[str, Any] | None) -> None:
        """Copy the state `last`, and begin to write it. `best`, a new best network if there is one, is written first,
        so that last.pt never refers to one that is not on disk; it must not change any more."""
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
        """Wait until everything is on disk. Raises RunError where it could not be written."""
        self._writer.wait()

    def give_up(self) -> None:
        """Stop writing; the checkpoint before stays."""
        self._writer.give_up()


def copied(value: Any) -> Any:
    """The value with its tensors copied to memory, so that training may change the originals."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if value.device.type == "cpu" else value.detach().cpu()
    if isinstance(value, dict):
        shallow = copy.copy(value)  # keeps the type: a state_dict carries the versions of its layers
        shallow.update({key: copied(part) for key, part in value.items()})
        return shallow
    return [copied(part) for part in value] if isinstance(value, list) else value


_FOLDED = 256  # losses that wait on an accelerator until they are read together


@dataclass
class Trace:
    """The loss of each step, and sums over the weights after 1, 2, 4, 8, … of these steps.

    A loss depends on all weights before its step, so the first loss that differs tells the step, and the sums tell the
    layers. Sums are taken over the bits, as integers, so that the last bit of one weight changes them. Summing at each
    step would take a tenth of the time of a small network.
    """

    begin: int
    """Steps done before the first recorded one."""
    losses: list[float] = field(default_factory=list)
    """The loss of each step."""
    sums: dict[int, torch.Tensor] = field(default_factory=dict)
    """By step, the `weight_sums` after it."""
    _waiting: list[torch.Tensor] = field(default_factory=list)

    def add(self, step: int, loss: torch.Tensor, module: nn.Module) -> None:
        """Record `step`, which is over: its scalar `loss`, and the weights of `module` after it."""
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
        """Read the losses that wait on an accelerator."""
        if self._waiting:
            self.losses += torch.stack(self._waiting).tolist()
            self._waiting = []

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for a checkpoint."""
        self.fold()
        sums = {step: values.cpu() for step, values in self.sums.items()}
        return {"begin": self.begin, "losses": torch.tensor(self.losses, dtype=torch.float64), "sums": sums}


def trace_from_dict(saved: Mapping[str, Any]) -> Trace:
    """The trace that `to_dict` returned."""
    return Trace(saved["begin"], saved["losses"].tolist(), dict(saved["sums"]))


@torch.no_grad()
def weight_sums(module: nn.Module) -> torch.Tensor:
    """(T,) int64: for each tensor of the state_dict, in its order, the sum of its bits, read as integers of 1 to 8
    bytes, modulo 2^64."""
    sums = [bits(tensor).sum(dtype=torch.int64) for tensor in module.state_dict().values()]
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.int64)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's memory, read as integers: equal where every bit is equal, also for NaN."""
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return real.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[real.element_size()])
