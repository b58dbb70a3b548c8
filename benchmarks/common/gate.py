"""The gate that a contender passes for each repeat: it waits there, asleep, until it is its turn."""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import IO, Any

from striate.machine.load import load_since, mark
from striate.machine.memory import peak_bytes


def wait_for_gpu() -> bool:
    """Until a GPU has done what it was given, where one is used: until then, time runs on. Whether one is."""
    torch = sys.modules.get("torch")
    used = torch is not None and torch.cuda.is_initialized()
    if used:
        torch.cuda.synchronize()
    return used


class Gate:
    """Where a contender waits for its turn and says what it did.

    A contender is a function of a gate and of options. It prepares, then repeats `gate.begin()`, work, `gate.end(…)`
    for ever; the process ends at the `begin` after the last turn. A library that has its own loop does both in its
    callbacks.
    """

    def __init__(self, commands: IO[str], replies: IO[str]) -> None:
        self._commands, self._replies = commands, replies
        self._started = 0.0
        self._load = mark()
        self._facts: dict[str, Any] = {}

    def say(self, **facts: Any) -> None:
        """Facts for the result: `precision` (fp32 where nothing is said), a plan, what was decided."""
        self._facts |= facts

    def begin(self) -> None:
        """Wait for the next turn; the clock runs from here. Ends the process when there is none."""
        self._answer({"ready": True})
        if self._commands.readline().strip() != "run":
            raise SystemExit(0)
        self._load = mark()
        self._started = perf_counter()

    def end(self, samples: int, seconds: float | None = None, **facts: Any) -> None:
        """A turn is over: it took `samples` samples (images) in `seconds`, by the gate's clock if None. `facts` are of
        this turn alone (the waiting for data, a loss). With them goes the share of the cores that others took,
        among which helpers of this process count that still run."""
        wait_for_gpu()
        elapsed = perf_counter() - self._started if seconds is None else seconds
        load = load_since(self._load)
        turn = {"samples": samples, "seconds": elapsed, "others": round(load.taken / load.cores, 4), **facts}
        self._answer({"turn": turn, "facts": self._facts, "peak_bytes": peak_bytes()})

    def _answer(self, message: dict[str, Any]) -> None:
        self._replies.write(json.dumps(message) + "\n")
        self._replies.flush()
