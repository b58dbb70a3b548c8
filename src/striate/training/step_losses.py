"""The training loss step by step, for trainings of so few epochs that one point per epoch shows nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from striate.runs.directory import RunDirectory
from striate.runs.events import read_events
from striate.training.events import EpochDone, StepDone

FEW_EPOCHS = 5
_POINTS = 40
"""Points per epoch at most: each is the mean over several steps."""


@dataclass
class StepLosses:
    """The losses of the steps of the current epoch; in a resumed run, since it was resumed."""

    _steps: list[StepDone] = field(default_factory=list)

    def add(self, done: StepDone) -> None:
        """Record a step of the first epochs."""
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
    """Rows `step`, `train_loss`, `lr` of a finished training of few epochs; for an epoch that was repeated after an
    interruption, the last ones. Empty where the training became longer or shorter on its way. Raises RunError."""
    epochs = {event.get("epoch"): event.get("by_step", ()) for event in read_events(run) if event["event"] == "epoch"}
    if not all(epochs.values()):
        return []
    return [{"step": step, "train_loss": loss, "lr": lr} for rows in epochs.values() for step, loss, lr in rows]
