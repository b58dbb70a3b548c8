"""The replay buffer: frames are stored once, as bytes, and stacked when they are sampled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from striate.data.environments.vectorized import Steps


class Sampled(NamedTuple):
    """A batch of B transitions with n steps each."""

    before: np.ndarray
    """(B, H, W, C·stack) uint8, the states before."""
    actions: np.ndarray
    """(B,) int64, the first action of each."""
    rewards: np.ndarray
    """(B, n) float32."""
    terminated: np.ndarray
    """(B, n) bool, whether each step ended the episode."""
    after: np.ndarray
    """(B, H, W, C·stack) uint8, the states n steps later."""


class Replay:
    """The last steps of N environments, as many as fit into `megabytes`, at most `most`.

    Row t has the frame that was acted on, the action, the reward, and whether the episode ended with it. A stack is
    this frame and the ones before it, with zeros before the first frame of the episode. Windows of n steps with a
    truncation are not sampled: the last frame of a truncated episode has no row.
    """

    def __init__(
        self, shape: tuple[int, int, int], count: int, stack: int, n_step: int, megabytes: float, most: int
    ) -> None:
        each = int(np.prod(shape)) + 2 + 4 + 1 + 1 + 1
        rows = min(int(megabytes * 1e6) // (each * count), -(-most // count))
        self.rows, self.stack, self.n_step = max(rows, 2 * (stack + n_step)), stack, n_step
        self.frames = np.zeros((self.rows, count, *shape), np.uint8)
        self.actions = np.zeros((self.rows, count), np.int16)
        self.rewards = np.zeros((self.rows, count), np.float32)
        self.terminated = np.zeros((self.rows, count), bool)
        self.truncated = np.zeros((self.rows, count), bool)
        self.first = np.zeros((self.rows, count), bool)
        self.added = 0
        self._begins = np.ones(count, bool)

    @property
    def nbytes(self) -> int:
        """The size of the buffer in bytes."""
        return sum(part.nbytes for part in self._parts().values())

    def __len__(self) -> int:
        """Number of steps that can be sampled, including those whose window has a truncation."""
        return max(self.newest - self.oldest, 0) * self.frames.shape[1]

    @property
    def oldest(self) -> int:
        """The first step, counted from the start of training, whose stack is still in the buffer."""
        return max(self.added - self.rows, 0) + (self.stack - 1 if self.added > self.rows else 0)

    @property
    def newest(self) -> int:
        """The step after the last one whose state n steps later is in the buffer."""
        return self.added - self.n_step

    def add(self, frames: np.ndarray, actions: np.ndarray, steps: Steps) -> None:
        """Add a step of all environments: the frames (N, H, W, C) acted on, the actions (N,), and their results."""
        row = self.added % self.rows
        self.frames[row], self.actions[row], self.rewards[row] = frames, actions, steps.rewards
        self.terminated[row], self.truncated[row], self.first[row] = steps.terminated, steps.truncated, self._begins
        self._begins = steps.over
        self.added += 1

    def sample(self, size: int, rng: np.random.Generator) -> Sampled:
        """Transitions drawn uniformly, with replacement."""
        found = np.empty((0, 2), np.int64)
        while len(found) < size:
            steps = rng.integers(self.oldest, self.newest, 2 * size)
            drawn = np.stack([steps, rng.integers(0, self.frames.shape[1], 2 * size)], axis=1)
            found = np.concatenate([found, drawn[~self._cut(drawn)]])
        steps, numbers = found[:size].T
        window = (steps[:, None] + np.arange(self.n_step)) % self.rows
        return Sampled(
            self.stacked(steps, numbers),
            self.actions[steps % self.rows, numbers].astype(np.int64),
            self.rewards[window, numbers[:, None]],
            self.terminated[window, numbers[:, None]],
            self.stacked(steps + self.n_step, numbers),
        )

    def _cut(self, drawn: np.ndarray) -> np.ndarray:
        """Whether a truncation comes before any terminal step of the window."""
        window = (drawn[:, :1] + np.arange(self.n_step)) % self.rows
        numbers = drawn[:, 1:]
        ended = np.cumsum(self.terminated[window, numbers], axis=1) > 0
        cut: np.ndarray = (self.truncated[window, numbers] & ~ended).any(axis=1)
        return cut

    def stacked(self, steps: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(B, H, W, C·stack) inputs of the network at these steps of these environments. The step after the last added
        one has no frame yet."""
        batch, _, height, width, channels = len(steps), *self.frames.shape[1:]
        out = np.zeros((batch, height, width, channels * self.stack), np.uint8)
        seen = np.ones(batch, bool)
        for back in range(self.stack):
            rows = (steps - back) % self.rows
            end = channels * (self.stack - back)
            out[seen, ..., end - channels : end] = self.frames[rows[seen], numbers[seen]]
            seen &= ~self.first[rows, numbers] & (steps - back > 0)
        return out

    def _parts(self) -> dict[str, np.ndarray]:
        names = ("frames", "actions", "rewards", "terminated", "truncated", "first")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """The filled part of the buffer."""
        filled = min(self.added, self.rows)
        parts = {name: torch.from_numpy(part[:filled]) for name, part in self._parts().items()}
        return {**parts, "added": self.added, "begins": torch.from_numpy(self._begins)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError for a buffer of another size."""
        filled = min(state["added"], self.rows)
        for name, part in self._parts().items():
            if len(state[name]) != filled or tuple(state[name].shape[1:]) != part.shape[1:]:
                raise ValueError("a replay buffer of another size")
            part[:filled] = state[name].numpy()
        self.added, self._begins = state["added"], state["begins"].numpy().copy()
