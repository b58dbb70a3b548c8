"""When a run saves its state, and how, without holding up the training."""

from __future__ import annotations

import copy
from time import monotonic
from typing import Any

import torch

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
