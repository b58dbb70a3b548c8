"""States of played games, with the network's inputs and outputs, for visualization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.data.environments.environment import drawn_planes
from striate.data.environments.vectorized import Environments
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.network import action_values

_AT_ONCE = 8
_LONGEST = 400


@dataclass(frozen=True, eq=False)
class States:
    """N states of games in which the best action was always taken."""

    stacks: NDArray[np.uint8]
    """(N, H, W, C·stack), as the network sees them."""
    pictures: NDArray[np.uint8]
    """(N, H, W, 3), the newest frame as a picture."""
    values: NDArray[np.float32]
    """(N, A) float32, the network's output for each action."""
    steps: NDArray[np.int64]
    """(N,) number of steps of the episode so far."""
    returns: NDArray[np.float64]
    """(N,) return of the episode so far."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def best(self) -> NDArray[np.int64]:
        """(N,) the action taken."""
        best: NDArray[np.int64] = self.values.argmax(1)
        return best


def played_states(module: nn.Module, source: str, config: ControlConfig, count: int, seed: int) -> States:
    """`count` evenly spaced states of games that are played in parallel, of up to 400 steps each."""
    environments = Environments(source, _AT_ONCE, seed, config.stack, config.limit)
    rows = [_row(environments, module)]
    needed = max(_LONGEST, -(-count // _AT_ONCE))
    while len(rows) < needed:
        environments.step(rows[-1].best)
        rows.append(_row(environments, module))
    chosen = np.linspace(0, needed * _AT_ONCE - 1, count).round().astype(int)
    parts = [np.concatenate([getattr(row, name) for row in rows])[chosen] for name in vars(rows[0])]
    return States(*parts)


def state_of_game(module: nn.Module, source: str, config: ControlConfig, step: int, seed: int) -> tuple[States, int]:
    """The state after `step` steps of one game, or the last state of a shorter game; and its number of steps."""
    environments = Environments(source, 1, seed, config.stack, config.limit)
    state = _row(environments, module)
    while state.steps[0] < step:
        if environments.step(state.best).over[0]:
            break
        state = _row(environments, module)
    return state, int(state.steps[0])


def _row(environments: Environments, module: nn.Module) -> States:
    """The present states; resets the environments before the first step."""
    if not environments.begun.any():
        environments.reset()
    stacks = environments.stacked.copy()
    pictures = np.stack([drawn_planes(frame) for frame in environments.frames])
    values = action_values(module, stacks)
    return States(stacks, pictures, values, environments.lengths.copy(), environments.rewards.copy())
