"""Many environments of one source, which this process steps together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from striate.data.counter_random import hash_key
from striate.data.environments.environment import Environment
from striate.data.environments.open_environment import opener


class Episode(NamedTuple):
    """A finished episode."""

    number: int
    """Index of the environment that played it."""
    rewards: float
    """Undiscounted sum of its rewards."""
    steps: int
    truncated: bool
    """Whether a limit of steps ended it."""


@dataclass(frozen=True)
class Steps:
    """The result of one action in each of N environments."""

    frames: np.ndarray
    """(N, H, W, C) uint8: the frames to act on next; where an episode ended, the first frame of the next one."""
    ends: np.ndarray
    """(N, H, W, C) uint8: the frames that the actions led to; where an episode ended, its last frame."""
    rewards: np.ndarray
    """(N,) float32."""
    terminated: np.ndarray
    """(N,) bool: the episode ended, and no reward can follow."""
    truncated: np.ndarray
    """(N,) bool: a limit of steps ended the episode."""
    episodes: tuple[Episode, ...]
    """The episodes that ended."""

    @property
    def over(self) -> np.ndarray:
        both: np.ndarray = self.terminated | self.truncated
        return both


class Environments:
    """`count` environments of `source`. When an episode ends, the next one begins at once.

    Episode k of environment i has the seed hash(`seed`, i, k), so no state of a generator has to be saved. `frames`
    (N, H, W, C) uint8 are the current frames. `stacked` holds the last `stack` frames of each episode as channels, the
    newest last, zeros before the first one.
    """

    def __init__(self, source: str, count: int, seed: int, stack: int | None = None, limit: int | None = None) -> None:
        make = opener(source)
        self.each: list[Environment] = [make() for _ in range(count)]
        self.game = self.each[0].game
        self.seed, self.stack, self.limit = seed, stack or self.game.stack, limit or self.game.limit
        height, width, channels = self.game.shape
        self.begun = np.zeros(count, np.int64)
        self.rewards, self.lengths = np.zeros(count), np.zeros(count, np.int64)
        self.stacked = np.zeros((count, height, width, channels * self.stack), np.uint8)

    def __len__(self) -> int:
        return len(self.each)

    @property
    def frames(self) -> np.ndarray:
        """(N, H, W, C) uint8: the current frame of each environment."""
        newest: np.ndarray = self.stacked[..., -self.game.shape[-1] :]
        return newest

    def reset(self) -> np.ndarray:
        """Begin the next episode of each environment; returns the frames."""
        for number in range(len(self)):
            self._begin(number)
        return self.frames

    def _begin(self, number: int) -> np.ndarray:
        seed = hash_key(self.seed, number, int(self.begun[number]))
        self.begun[number] += 1
        self.rewards[number], self.lengths[number] = 0.0, 0
        frame = self.each[number].reset(seed)
        self.stacked[number] = 0
        self.stacked[number, ..., -self.game.shape[-1] :] = frame
        return frame

    def step(self, actions: np.ndarray) -> Steps:
        """Act once in each environment. `actions`: (N,) indices into `game.actions`."""
        count, channels = len(self), self.game.shape[-1]
        ends = np.empty((count, *self.game.shape), np.uint8)
        rewards, terminated = np.empty(count, np.float32), np.empty(count, bool)
        truncated, episodes = np.empty(count, bool), list[Episode]()
        for number, (environment, action) in enumerate(zip(self.each, actions.tolist(), strict=True)):
            ends[number], rewards[number], terminated[number], truncated[number] = environment.step(action)
        self.rewards += rewards
        self.lengths += 1
        truncated |= ~terminated & (self.lengths >= self.limit)
        if self.stack > 1:
            self.stacked[..., :-channels] = self.stacked[..., channels:]
        self.stacked[..., -channels:] = ends
        for number in np.flatnonzero(terminated | truncated).tolist():
            length, total = int(self.lengths[number]), float(self.rewards[number])
            episodes.append(Episode(number, total, length, bool(truncated[number])))
            self._begin(number)
        return Steps(self.frames, ends, rewards, terminated, truncated, tuple(episodes))

    def ended(self, before: np.ndarray, steps: Steps) -> np.ndarray:
        """(N, H, W, C·stack): the stacks that `steps` led to; where an episode ended, its last stack. `before`: the
        stacks that were acted on."""
        return np.concatenate([before[..., self.game.shape[-1] :], steps.ends], axis=-1)

    def state_dict(self) -> dict[str, Any]:
        """The state to continue from: tensors, numbers and texts, in lists and dicts."""
        return {
            "begun": torch.from_numpy(self.begun.copy()),
            "rewards": torch.from_numpy(self.rewards.copy()),
            "lengths": torch.from_numpy(self.lengths.copy()),
            "stacked": torch.from_numpy(self.stacked.copy()),
            "snapshots": [to_tensors(environment.snapshot()) for environment in self.each],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from this state. Raises ValueError for another number of environments or another game."""
        if len(state["snapshots"]) != len(self) or tuple(state["stacked"].shape) != self.stacked.shape:
            raise ValueError("the environments differ from those of the checkpoint")
        self.begun, self.rewards = state["begun"].numpy().copy(), state["rewards"].numpy().copy()
        self.lengths, self.stacked = state["lengths"].numpy().copy(), state["stacked"].numpy().copy()
        for environment, snapshot in zip(self.each, state["snapshots"], strict=True):
            environment.restore(to_arrays(snapshot))


def to_tensors(value: Any) -> Any:
    """Plain values with arrays as tensors, which a checkpoint can hold (`weights_only`)."""
    if isinstance(value, np.ndarray):
        signed = {np.dtype(np.uint32): np.int64, np.dtype(np.uint64): np.int64}.get(value.dtype)
        return torch.from_numpy(value.astype(signed) if signed else value.copy())
    if isinstance(value, dict):
        return {key: to_tensors(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_tensors(part) for part in value]
    return value


def to_arrays(value: Any) -> Any:
    """The inverse of `to_tensors`; unsigned integers of 32 and 64 bits come back as int64."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: to_arrays(part) for key, part in value.items()}
    if isinstance(value, list):
        return [to_arrays(part) for part in value]
    return value
