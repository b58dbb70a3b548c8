"""Games of the Atari 2600 in the Arcade Learning Environment, prepared as recommended by Machado et al. (2018).

A step is four frames of the console with one action. The observation is the maximum of the last two frames, in gray,
84 × 84. On each frame, the previous action is repeated with probability 0.25 (sticky actions). An episode ends when the
game is over, not with a life; it is truncated after 18,000 frames, five minutes of play.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from striate.data.counter_random import hash_key
from striate.data.environments.environment import Environment, Game, Snapshot, Step

SIDE, SKIP, STICKY, FRAMES = 84, 4, 0.25, 18_000


class Atari(Environment):
    """A game of the console: gray frames (84, 84, 1).

    The emulator is deterministic. Whether an action sticks is drawn here, from the episode's seed and the number of the
    frame, so that the state to save is that of the emulator and four numbers.
    """

    def __init__(self, name: str, rom: str) -> None:
        from ale_py import ALEInterface, LoggerMode, roms

        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.emulator: Any = ALEInterface()
        self.emulator.setInt("random_seed", 0)
        self.emulator.setFloat("repeat_action_probability", 0.0)
        path: Any = roms.get_rom_path(rom)
        self.emulator.loadROM(path)
        self.emulator.reset_game()
        self.start = self.emulator.cloneState(include_rng=True)
        self.moves = list(self.emulator.getMinimalActionSet())
        self.screens = np.zeros((2, *self.emulator.getScreenDims()), np.uint8)
        self.seed = self.number = self.last = 0
        self.game = Game(
            f"gym:ALE/{name}-v5",
            (SIDE, SIDE, 1),
            tuple(move.name.lower() for move in self.moves),
            stack=4,
            limit=FRAMES // SKIP,
            clips=True,
            notes=(
                f"Atari: gray, {SIDE} × {SIDE}, one action for {SKIP} frames, the maximum of the last two, sticky"
                f" actions {STICKY}, at most {FRAMES:,} frames per episode.",
            ),
        )

    def reset(self, seed: int) -> np.ndarray:
        self.emulator.restoreState(self.start)
        self.seed, self.number, self.last = seed, 0, 0
        self.screens[0] = self.screens[1] = self.emulator.getScreenGrayscale()
        return self._frame()

    def step(self, action: int) -> Step:
        reward = 0.0
        for frame in range(SKIP):
            if hash_key(self.seed, self.number) >= STICKY * 2**63:
                self.last = action
            self.number += 1
            reward += self.emulator.act(self.moves[self.last])
            if self.emulator.game_over():
                self.screens[0] = self.screens[1] = self.emulator.getScreenGrayscale()
                break
            if frame >= SKIP - 2:
                self.screens[frame - SKIP + 2] = self.emulator.getScreenGrayscale()
        return Step(self._frame(), reward, bool(self.emulator.game_over()), False)

    def snapshot(self) -> Snapshot:
        state = self.emulator.cloneState(include_rng=True).serialize()
        return {
            "emulator": np.frombuffer(state, np.uint8).copy(),
            "chance": [self.seed, self.number, self.last],
            "screens": self.screens.copy(),
        }

    def restore(self, snapshot: Snapshot) -> None:
        from ale_py import ALEState

        self.emulator.restoreState(ALEState(snapshot["emulator"].tobytes()))
        self.seed, self.number, self.last = snapshot["chance"]
        self.screens = snapshot["screens"].copy()

    def reseed(self, seed: int) -> None:
        self.seed = seed

    def picture(self) -> np.ndarray:
        picture: np.ndarray = self.emulator.getScreenRGB()
        return picture

    def _frame(self) -> np.ndarray:
        gray = Image.fromarray(self.screens.max(axis=0))
        return np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.BOX))[..., None]
