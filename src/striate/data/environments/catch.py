"""Catch: a ball falls, and a paddle must be under it. It is the smallest game of pixels, and needs no package.

As in bsuite (Osband et al. 2020), the board has 10 × 5 cells, with a pixel for each. The ball starts in a random
column. The reward is 1 if it is caught, else -1, so that random play has about -0.6, and the best is 1.
"""

from __future__ import annotations

import numpy as np

from striate.data.counter_random import hash_key
from striate.data.environments.environment import Environment, Game, Snapshot, Step, drawn_planes

CATCH = "striate/Catch-v0"
ROWS, COLUMNS = 10, 5


class Catch(Environment):
    """The game of one falling ball; an episode is nine steps."""

    game = Game(f"gym:{CATCH}", (ROWS, COLUMNS, 2), ("left", "stay", "right"), stack=1, limit=ROWS)

    def __init__(self) -> None:
        self.row = self.column = 0
        self.paddle = COLUMNS // 2

    def reset(self, seed: int) -> np.ndarray:
        self.row, self.column, self.paddle = 0, hash_key(seed) % COLUMNS, COLUMNS // 2
        return self._frame()

    def step(self, action: int) -> Step:
        self.paddle = min(max(self.paddle + action - 1, 0), COLUMNS - 1)
        self.row += 1
        over = self.row == ROWS - 1
        reward = (1.0 if self.paddle == self.column else -1.0) if over else 0.0
        return Step(self._frame(), reward, over, False)

    def snapshot(self) -> Snapshot:
        return {"row": self.row, "column": self.column, "paddle": self.paddle}

    def restore(self, snapshot: Snapshot) -> None:
        self.row, self.column, self.paddle = snapshot["row"], snapshot["column"], snapshot["paddle"]

    def reseed(self, seed: int) -> None:
        del seed  # only the start is random

    def picture(self) -> np.ndarray:
        return drawn_planes(self._frame())

    def _frame(self) -> np.ndarray:
        frame = np.zeros(self.game.shape, np.uint8)
        frame[ROWS - 1, self.paddle, 0] = 255
        frame[self.row, self.column, 1] = 255
        return frame
