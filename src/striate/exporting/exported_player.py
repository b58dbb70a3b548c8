"""Export a network that plays: the file takes stacked frames, and gives the values of actions and the best action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.errors import UsageError
from striate.exporting.export import Exported, checked_place
from striate.exporting.export_format import ExportFormat, Runner, written_size
from striate.exporting.parity import BATCHES, LIMIT, Parity
from striate.exporting.speed import run_first, speeds
from striate.exporting.staging import publish, staged
from striate.exporting.traceable import Traceable
from striate.models.preserved_state import copied, same_random_state
from striate.runs.directory import RunDirectory
from striate.tasks.control.network import action_values
from striate.tasks.control.play import split_seed
from striate.tasks.control.states import played_states
from striate.training.rewards.player import Player
from striate.version import VERSION

_STATES = 64
"""Number of states of games for the comparison."""


class ExportedPlayer(Traceable):
    """A copy of a network that plays, in fp32 and eval mode: frames (N, H, W, C·stack) uint8, the oldest first, to
    `values` (N, A) float32 and `action` (N,) int64, the number of the largest."""

    def __init__(self, player: Player, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module = copied(player.module).cpu().float().eval().requires_grad_(False)
        self.shape = shape

    @property
    def input_name(self) -> str:
        """Name of the stacked frames."""
        return "frames"

    @property
    def output_names(self) -> tuple[str, ...]:
        """Values first."""
        return "values", "action"

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """Any number of states."""
        return {0: "N"}

    def example(self, count: int = 2) -> torch.Tensor:
        """Black frames."""
        return torch.zeros(count, *self.shape, dtype=torch.uint8)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as `tasks.control.network.as_input` and `action_values`."""
        values: torch.Tensor = self.module(frames.permute(0, 3, 1, 2).to(torch.float32) / 255)
        return values, values.argmax(1)


def export_player(
    player: Player,
    run: RunDirectory,
    kind: ExportFormat,
    out: Path | None = None,
    *,
    int8: bool = False,
    announce: Callable[[str], None] | None = None,
) -> Exported:
    """Write the network of a run that learned from rewards as a file of format `kind`, at `out` or in the folder
    `exports` of the run, if the file computes the values and actions of the run for states of games that it plays.
    Raises UsageError where a package is missing, the file exists, or the format does not support it."""
    announce = announce or (lambda _: None)
    _refuse(kind, int8)
    place = checked_place(run, kind, out)
    control = player.config.task.control
    announce("playing, to collect states for the comparison")
    states = played_states(player.module, player.source, control, _STATES, split_seed(player.config.seed, "play"))
    frames = states.stacks
    network = ExportedPlayer(player, frames.shape[1:])
    with staged(place) as temporary, same_random_state():
        announce(f"writing {kind.what}")
        kind.write(network, _facts(player, network), temporary)
        runners = kind.runners(temporary)
        announce("comparing its values and actions with those of the run")
        parity = player_parity(action_values(player.module, frames), frames, runners)
        if not parity.holds:
            return Exported(None, kind.name, 0, parity, refused="its values and actions differ from those of the run")
        announce("measuring its speed")
        works: dict[str, Callable[[int], object]] = {n: partial(run_first, run, frames) for n, run in runners.items()}
        works["torch"] = lambda count: action_values(player.module, frames[:count])
        speed, written = speeds(works), written_size(temporary.parent)
        publish(temporary, place)
    return Exported(place, kind.name, written, parity, speed)


def player_parity(values: NDArray[np.float32], frames: NDArray[np.uint8], runners: Mapping[str, Runner]) -> Parity:
    """Compare the outputs of the runners for frames with the run's `values` (N, A). Differences are relative to the
    largest value, or to 1 if that is larger; an action counts as the same if its value is the largest one up to the
    allowed difference."""
    unit = max(1.0, float(np.abs(values).max()))
    count, same, worst = 0, 0, dict.fromkeys(runners, 0.0)
    for name, run in runners.items():
        for at_once in BATCHES:
            for begin in range(0, len(frames), at_once):
                right = values[begin : begin + at_once]
                found, actions = run(frames[begin : begin + at_once])
                worst[name] = max(worst[name], float(np.abs(found - right).max()) / unit)
                taken = right[np.arange(len(right)), actions]
                same += int((taken >= right.max(1) - LIMIT * unit).sum())
                count += len(right)
    return Parity(count, (), same, worst)


def _refuse(kind: ExportFormat, int8: bool) -> None:
    kind.require()
    if not kind.exports_players:
        expected = "a format without a model card, whose metrics are those of samples"
        raise UsageError(f"--format {kind.name}", "a network that learned from rewards", expected, "--format onnx")
    if int8:
        got = "a network that learned from rewards, which has no metric of samples"
        raise UsageError("--int8", got, "a network that predicts for samples", "leave out --int8")


def _facts(player: Player, network: ExportedPlayer) -> dict[str, Any]:
    control = player.config.task.control
    scores = control.algorithm == "planner" and control.lesson != "values"
    return {
        "striate": VERSION,
        "task": player.config.task.name,
        "input": network.described,
        "outputs": list(network.output_names),
        "facts": {
            "actions": list(player.actions),
            "stack": control.stack,
            "values": "scores of actions" if scores else "discounted future rewards",
            "discount": control.discount,
        },
        "model": player.config.model.name,
        "data": player.source,
        "game": player.source,
    }
