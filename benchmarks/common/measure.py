"""Contenders take turns: each repeat lets all of them work once, so that what else the machine does meets them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.contender import Contender, LostContenderError, Process

MIB = 2**20
REST = 1.5
"""Seconds before a turn in which nobody works: programs that look at the load see that of the contender before."""
GENTLE = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}


@dataclass
class Measured:
    """What a contender did: a turn a repeat, facts that it said, its peak memory; or why it is not there."""

    contender: Contender
    turns: list[dict[str, Any]] = field(default_factory=list)
    warm_up: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    peak_bytes: int = 0
    lost: str | None = None

    @property
    def rates(self) -> list[float]:
        """Samples (images) a second of each repeat."""
        return [turn["samples"] / turn["seconds"] for turn in self.turns]


def measure(
    file: str | Path,
    contenders: Sequence[Contender],
    *,
    repeats: int,
    warm_up: int = 1,
    limit: float = 1800.0,
    gently: bool = False,
    watch: bool = False,
) -> list[Measured]:
    """Start each contender in its process and let them take `warm_up` and `repeats` turns, one after the other with
    a rest between them, the order reversed each time. A contender that cannot take part is `lost`, with its reason;
    the others go on. The memory of contenders with several processes is watched while they warm up, or with
    `watch` always. `gently`: one thread each, which does not spin, and no rest: to see whether it runs, on a machine
    that others use."""
    found = [Measured(contender) for contender in contenders]
    processes: dict[int, Process] = {}
    try:
        for number in range(warm_up + repeats):
            places = range(len(found)) if number % 2 == 0 else reversed(range(len(found)))
            for place in places:
                one = found[place]
                if one.lost is not None:
                    continue
                if place not in processes:
                    processes[place] = Process(one.contender, Path(file), GENTLE if gently else {})
                _take_turn(one, processes[place], number < warm_up, watch, limit, gently)
    finally:
        for process in processes.values():
            process.close()
    return found


def _take_turn(one: Measured, process: Process, warming: bool, watch: bool, limit: float, quick: bool) -> None:
    time.sleep(0 if quick else REST)
    try:
        turn = process.turn(watch=watch or warming, limit=limit)
    except LostContenderError as error:
        one.lost = error.reason
        return
    (one.warm_up if warming else one.turns).append(turn)
    one.facts, one.peak_bytes = process.facts, process.peak_bytes


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
