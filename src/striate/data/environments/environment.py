"""What an environment is: the protocol that every game has, single and in whole.

An environment is played one action at a time:

    environment = open_environment("gym:MinAtar/Breakout-v1")
    frame = environment.reset(seed=0)                 # uint8 (H, W, C), values 0 to 255
    step = environment.step(action)                   # Step(frame, reward, terminated, truncated)
    here = environment.snapshot()                     # numbers, texts, arrays: all that the rest needs
    environment.restore(here)                         # the same environment, or another of the same source
    environment.reseed(7)                             # other chance from here on: a planner must not foresee it

Everything of an episode follows from its seed and its actions, so an environment whose state cannot be copied is
restored by playing the actions again. `copies` says which of the two it is: a planner needs a copy.
Many environments at once, and frames stacked: `vectorized.Environments`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Snapshot = dict[str, Any]
"""The state of an environment as numbers, texts, None, arrays, and lists and dicts of such."""


class Step(NamedTuple):
    """What an action led to.

    `frame` is uint8 (H, W, C). `terminated`: the episode is over, and no reward can follow. `truncated`: it was only
    cut off, at a limit of steps, so that what would have followed has a value.
    """

    frame: np.ndarray
    reward: float
    terminated: bool
    truncated: bool

    @property
    def over(self) -> bool:
        return self.terminated or self.truncated


@dataclass(frozen=True)
class Game:
    """What is known of an environment before it is played.

    `shape` is (H, W, C) of a frame; `actions` names them; `stack` is how many frames a network needs to see to know
    where things move; `limit` the steps after which an episode is truncated; `clips` whether rewards are so different
    between games of this family that their sign is learned, as published; `notes` is how frames are made.
    """

    source: str
    shape: tuple[int, int, int]
    actions: tuple[str, ...]
    stack: int
    limit: int
    clips: bool = False
    notes: tuple[str, ...] = ()


class Environment(ABC):
    """A single environment with discrete actions and pixels as observations."""

    game: Game
    copies: bool = True
    """Whether a snapshot is restored in one step; False where the actions of the episode are played again."""

    @abstractmethod
    def reset(self, seed: int) -> np.ndarray:
        """Begin the episode of this seed; its first frame, uint8 (H, W, C)."""

    @abstractmethod
    def step(self, action: int) -> Step:
        """Act once. Not to be called after the end of an episode."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The state, as values that nothing changes later."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Become what the snapshot says, chance included. The snapshot stays as it is."""

    @abstractmethod
    def reseed(self, seed: int) -> None:
        """Draw what chance decides from here on from another seed; nothing where an episode has no chance but its
        start."""

    def picture(self) -> np.ndarray:
        """The state as a person sees it, uint8 (H, W, 3)."""
        raise NotImplementedError


def copied(value: Any) -> Any:
    """A copy of plain values, deep; numbers of NumPy become Python's."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [copied(part) for part in value]
    return value


# Colors of the planes of a symbolic frame, in their order: told apart by those who see fewer (Okabe and Ito 2008).
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
    """A frame (H, W, C) as uint8 (H, W, 3): as it is where it has one or three channels, else each plane in a color of
    its own, later ones above earlier ones, on black."""
    if frame.shape[-1] in (1, 3):
        return np.broadcast_to(frame, (*frame.shape[:2], 3)).copy()
    picture = np.zeros((*frame.shape[:2], 3), np.uint8)
    for plane in range(frame.shape[-1]):
        picture[frame[..., plane] > 0] = _COLORS[plane % len(_COLORS)]
    return picture
