"""Many environments of one source, played side by side in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from striate.data.counter_random import hash_key
from striate.data.environments.environment import Environment
from striate.data.environments.open_environment import opener


class Episode(NamedTuple):
    """An episode that is over: the sum of its rewards, undiscounted, and its steps; which environment played it."""

    number: int
    rewards: float
    steps: int
    truncated: bool


@dataclass(frozen=True)
class Steps:
    """What N actions led to.

    `frames` (N, H, W, C) uint8 are those to act on next: where an episode is over, the first of the next one.
    `ends` (N, H, W, C) are what the actions led to, the last of their episode there; elsewhere the same.
    `rewards` float32, `terminated` and `truncated` bool, all (N,). `episodes` are those that are over.
    """

    frames: np.ndarray
    ends: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episodes: tuple[Episode, ...]

    @property
    def over(self) -> np.ndarray:
        both: np.ndarray = self.terminated | self.truncated
        return both


class Environments:
    """`count` environments of `source`; an episode that is over is followed by the next one at once.

    Episode k of environment i has the seed hash(`seed`, i, k): no state of a generator has to be kept, and other seeds
    are other episodes. `frames` (N, H, W, C) uint8 are those of now, `stacked` the last `stack` of each episode as
    channels, the newest last, zeros before its first one.
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
        """(N, H, W, C) uint8: the newest of each."""
        newest: np.ndarray = self.stacked[..., -self.game.shape[-1] :]
        return newest

    def reset(self) -> np.ndarray:
        """Begin each environment's next episode; their frames."""
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
        """Act once in each. `actions` (N,) are numbers of `game.actions`."""
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
        """(N, H, W, C·stack): the stacks that `steps` led to, the last of an episode where it is over. `before` are the
        stacks that were acted on."""
        return np.concatenate([before[..., self.game.shape[-1] :], steps.ends], axis=-1)

    def state_dict(self) -> dict[str, Any]:
        """All that going on needs: tensors, numbers, texts, and lists and dicts of such."""
        return {
            "begun": torch.from_numpy(self.begun.copy()),
            "rewards": torch.from_numpy(self.rewards.copy()),
            "lengths": torch.from_numpy(self.lengths.copy()),
            "stacked": torch.from_numpy(self.stacked.copy()),
            "snapshots": [to_tensors(environment.snapshot()) for environment in self.each],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises ValueError for another number of environments or another game."""
        if len(state["snapshots"]) != len(self) or tuple(state["stacked"].shape) != self.stacked.shape:
            raise ValueError("the environments differ from those of the checkpoint")
        self.begun, self.rewards = state["begun"].numpy().copy(), state["rewards"].numpy().copy()
        self.lengths, self.stacked = state["lengths"].numpy().copy(), state["stacked"].numpy().copy()
        for environment, snapshot in zip(self.each, state["snapshots"], strict=True):
            environment.restore(to_arrays(snapshot))


def to_tensors(value: Any) -> Any:
    """Plain values with arrays as tensors, so that a checkpoint holds nothing that has to be executed."""
    if isinstance(value, np.ndarray):
        signed = {np.dtype(np.uint32): np.int64, np.dtype(np.uint64): np.int64}.get(value.dtype)
        return torch.from_numpy(value.astype(signed) if signed else value.copy())
    if isinstance(value, dict):
        return {key: to_tensors(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_tensors(part) for part in value]
    return value


def to_arrays(value: Any) -> Any:
    """What `to_tensors` was given, with integers of 64 bits where they had 32 without a sign."""
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: to_arrays(part) for key, part in value.items()}
    if isinstance(value, list):
        return [to_arrays(part) for part in value]
    return value
