"""The interface of an environment: a single game with discrete actions.

An environment is played one action at a time:

    environment = open_environment("gym:MinAtar/Breakout-v1")
    frame = environment.reset(seed=0)                 # uint8 (H, W, C), values 0 to 255
    step = environment.step(action)                   # Step(frame, reward, terminated, truncated)
    here = environment.snapshot()                     # the state: numbers, texts, arrays
    environment.restore(here)                         # in the same environment, or another of the same source
    environment.reseed(7)                             # other random events from here on, which a planner cannot foresee

An episode is determined by its seed and its actions. An environment whose state cannot be copied is restored by playing
the actions again; `copies` says whether it can be copied, which a planner needs.
`vectorized.Environments` runs many environments and stacks frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Snapshot = dict[str, Any]
"""The state of an environment as numbers, texts, None, arrays, and lists and dicts of such."""


class Step(NamedTuple):
    """The result of an action."""

    frame: np.ndarray
    """(H, W, C) uint8."""
    reward: float
    terminated: bool
    """Whether the episode ended, and no reward can follow."""
    truncated: bool
    """Whether a limit of steps ended the episode, so that the last state still has a value."""

    @property
    def over(self) -> bool:
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Game:
    """The constants of an environment."""

    source: str
    """The data argument, `gym:ID`."""
    shape: tuple[int, int, int]
    """(H, W, C) of a frame."""
    actions: tuple[str, ...]
    """Names of the actions."""
    stack: int
    """The number of frames that a network needs to see motion."""
    limit: int
    """Steps after which an episode is truncated."""
    clips: bool = False
    """Whether only the sign of rewards is learned, as published for families of games with very different rewards."""
    notes: tuple[str, ...] = ()
    """How frames are made, one sentence each."""


class Environment(ABC):
    """A single environment with discrete actions and pixels as observations."""

    game: Game
    copies: bool = True
    """Whether `restore` copies the state; False where it plays the actions of the episode again."""

    @abstractmethod
    def reset(self, seed: int) -> np.ndarray:
        """Begin the episode of this seed; returns its first frame, (H, W, C) uint8."""

    @abstractmethod
    def step(self, action: int) -> Step:
        """Act once. Must not be called after the end of an episode."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """A copy of the state."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Set the state, including that of the random generator. The snapshot is not changed."""

    @abstractmethod
    def reseed(self, seed: int) -> None:
        """Draw later random events from another seed; does nothing where only the start of an episode is random."""

    def picture(self) -> np.ndarray:
        """A picture of the state for a viewer, (H, W, 3) uint8."""
        raise NotImplementedError


def plain_copy(value: Any) -> Any:
    """A deep copy of plain values; NumPy's numbers become Python's."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: plain_copy(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_copy(part) for part in value]
    return value


# Colors of the planes of a symbolic frame, distinguishable by the color-blind (Okabe and Ito 2008).
_COLORS = np.array(
    [
        [230, 230, 230],
        [240, 228, 66],
        [86, 180, 233],
        [213, 94, 0],
        [0, 158, 115],
        [204, 121, 167],
        [230, 159, 0],
        [0, 114, 178],
        [153, 153, 153],
        [120, 94, 60],
    ],
    np.uint8,
)


def drawn_planes(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, C) as a picture (H, W, 3) uint8: unchanged where it has one or three channels, else each plane in
    its own color on black, later planes over earlier ones."""
    if frame.shape[-1] in (1, 3):
        return np.broadcast_to(frame, (*frame.shape[:2], 3)).copy()
    picture = np.zeros((*frame.shape[:2], 3), np.uint8)
    for plane in range(frame.shape[-1]):
        picture[frame[..., plane] > 0] = _COLORS[plane % len(_COLORS)]
    return picture
