"""The training loss step by step, of a training of so few epochs that a point an epoch would show nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from striate.runs.directory import RunDirectory
from striate.runs.events import read_events
from striate.training.events import EpochDone, StepDone

FEW_EPOCHS = 5
_POINTS = 40
"""Of an epoch at most: each is the mean over as many steps as it takes."""


@dataclass
class StepLosses:
    """Losses of the steps of the epoch that goes on. A resumed run has those since it went on."""

    _steps: list[StepDone] = field(default_factory=list)

    def add(self, done: StepDone) -> None:
        """Take note of a step of the first epochs."""
        if done.epoch <= FEW_EPOCHS:
            self._steps.append(done)

    def taken(self, over: EpochDone) -> dict[str, Any]:
        """`by_step` of the epoch that is over: [step, loss, learning rate] of its parts; empty in longer trainings."""
        steps, self._steps = self._steps, []
        if not steps or over.epochs > FEW_EPOCHS:
            return {}
        length = -(-len(steps) // _POINTS)
        parts = [steps[k : k + length] for k in range(0, len(steps), length)]
        return {
            "by_step": [
                [part[-1].step, float(sum(one.loss for one in part)) / len(part), part[-1].lr] for part in parts
            ]
        }


def read_step_losses(run: RunDirectory) -> list[dict[str, float]]:
    """Rows `step`, `train_loss`, `lr` of a finished training of few epochs; of an epoch that was repeated after an
    interruption the last ones. None of a training that became longer or shorter than few epochs on its way. Raises
    RunError."""
    epochs = {event.get("epoch"): event.get("by_step", ()) for event in read_events(run) if event["event"] == "epoch"}
    if not all(epochs.values()):
        return []
    return [{"step": step, "train_loss": loss, "lr": lr} for rows in epochs.values() for step, loss, lr in rows]
