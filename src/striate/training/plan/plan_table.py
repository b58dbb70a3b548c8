"""The record of an execution plan: candidates, their rows, and the table; free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from striate.inference.race import AHEAD, Timing, is_ahead
from striate.training.config import Config, ExecutionConfig
from striate.wording import several

_COMPILED = {"off": "", "default": "compiled", "cuda-graphs": "CUDA graphs"}
_ROUGHNESS = {"fp32": 0, "tf32": 1, "bf16": 2, "fp16": 3}


@dataclass(frozen=True)
class Candidate:
    """A choice for an execution plan: decided values of the fields `execution.*` with the same names."""

    precision: str
    memory_format: str
    threads: int
    compile: str = "off"
    allocator: str = "system"

    @property
    def name(self) -> str:
        """`bf16, channels_last, 2 threads, compiled`; the allocator is named where it reuses memory."""
        reuse = "reuses freed memory" if self.allocator == "keep" else ""
        threads = several(self.threads, "thread")
        return ", ".join(filter(None, [self.precision, self.memory_format, threads, _COMPILED[self.compile], reuse]))

    @property
    def numerics(self) -> tuple[str, str, str]:
        """The fields that decide which numbers come out, up to the order of sums among threads."""
        return self.precision, self.memory_format, self.compile

    @property
    def plainness(self) -> tuple[int, ...]:
        """Smaller is plainer: eager before compiled, fp32 before lower precision, contiguous before other layouts, then
        fewer threads. The allocator changes no number and does not count."""
        layout, compiled = self.memory_format != "contiguous", list(_COMPILED).index(self.compile)
        return compiled, _ROUGHNESS[self.precision], layout, self.threads

    def execution(self, execution: ExecutionConfig) -> ExecutionConfig:
        """`execution` with what this candidate decides."""
        return replace(execution, **asdict(self))

    def config(self, config: Config) -> Config:
        """`config` with this candidate's execution."""
        return replace(config, execution=self.execution(config.execution))

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def candidate_of(execution: ExecutionConfig) -> Candidate:
    """The candidate with the decided values of `execution`."""
    assert execution.precision and execution.memory_format and execution.threads, "decided before"
    return Candidate(
        execution.precision,
        execution.memory_format,
        execution.threads,
        execution.compile or "off",
        execution.allocator or "system",
    )


def choose(timings: Mapping[Candidate, Timing]) -> Candidate:
    """Starts with the plainest candidate and takes each less plain one that is clearly faster than the one taken so
    far; of equally plain ones the faster."""
    first, *others = sorted(timings, key=lambda candidate: (candidate.plainness, timings[candidate].seconds))
    taken = first
    for one in others:
        taken = one if is_ahead(timings[one], timings[taken]) else taken
    return taken


@dataclass(frozen=True)
class PlanRow:
    """One candidate and what was measured of it."""

    candidate: Candidate
    seconds: float | None
    """Median seconds per step. None: not timed."""
    spread: float | None
    """Half the interquartile range of the seconds. None: timed once, or not at all."""
    agreement: str
    """Its agreement with plain fp32, in words."""
    passed: bool
    """Whether it agrees well enough to be chosen."""
    chosen: bool = False
    """Whether the run takes it."""
    peak_bytes: int | None = None
    """Peak memory of the GPU in bytes. None: not known, as on a CPU."""


@dataclass(frozen=True)
class PlanRecord:
    """The table of an execution plan."""

    rows: tuple[PlanRow, ...]
    """One row per candidate, plain first."""
    samples: int
    """Samples of each timed step."""
    load: str
    """Load of the cores while it was measured, in words."""
    seconds: float
    """Seconds that planning took."""
    source: Literal["measured", "cached"] = "measured"
    """Whether it was measured now, or is cached from an earlier run."""
    remarks: tuple[str, ...] = ()
    """What the one-line summary says besides the choice, a phrase each."""
    notes: tuple[str, ...] = ()
    """What only the table says, a sentence each."""

    @property
    def chosen(self) -> Candidate:
        """The candidate that the run takes."""
        return next(row.candidate for row in self.rows if row.chosen)

    @property
    def speedup(self) -> float | None:
        """How many times as fast as plain fp32 the chosen candidate is; None where either was not timed."""
        return self.times_plain(next(row for row in self.rows if row.chosen))

    def times_plain(self, row: PlanRow) -> float | None:
        """How many times as fast as plain fp32 this row is; None where either was not timed."""
        plain = self.rows[0].seconds
        return None if plain is None or not row.seconds else plain / row.seconds

    @property
    def _base(self) -> str:
        """What the summary compares with. On busy cores the first row has fewer threads than `--plan plain` takes."""
        base = self.rows[0].candidate
        if base.numerics != ("fp32", "contiguous", "off"):
            alone = replace(base, allocator=self.chosen.allocator) == self.chosen
            return "the same without memory reuse" if alone else base.name
        fewer = base.threads < max(row.candidate.threads for row in self.rows)
        return f"plain fp32 with {several(base.threads, 'thread')}" if fewer else "plain fp32"

    def __str__(self) -> str:
        """One line: `bf16, channels_last, 2 threads: 2.1× plain fp32; …`."""
        origin = "plan (cached from an earlier run): " if self.source == "cached" else "plan: "
        times = 1.0 if self.rows[0].chosen else self.speedup
        gained = times is not None and times > 1 / (1 - AHEAD)
        gain = f": {times:.2g}× {self._base}" if gained else ""
        nothing = " (no candidate was faster)" if times is not None and not gained and len(self.rows) > 1 else ""
        return "; ".join([f"{origin}{self.chosen.name}{gain}{nothing}", *self.remarks])

    def to_json(self) -> dict[str, Any]:
        """Plain values: `chosen`, `speedup`, `rows` with `name`, `images_per_second` and `times_plain` beside their
        fields, and the rest by name."""
        rows = [
            asdict(row)
            | {
                "name": row.candidate.name,
                "images_per_second": None if not row.seconds else round(self.samples / row.seconds, 1),
                "times_plain": self.times_plain(row),
            }
            for row in self.rows
        ]
        return {
            "chosen": self.chosen.to_json(),
            "speedup": self.speedup,
            "source": self.source,
            "samples": self.samples,
            "load": self.load,
            "seconds": round(self.seconds, 3),
            "remarks": list(self.remarks),
            "notes": list(self.notes),
            "rows": rows,
        }


def record_from_json(values: Mapping[str, Any], source: Literal["measured", "cached"]) -> PlanRecord:
    """The record that `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    rows = tuple(_row(row) for row in values["rows"])
    if sum(row.chosen for row in rows) != 1 or not all(row.passed for row in rows if row.chosen):
        raise ValueError("exactly one row is chosen, and it passed")
    if int(values["samples"]) < 1:
        raise ValueError("a step has samples")
    remarks, notes = (tuple(map(str, values[name])) for name in ("remarks", "notes"))
    return PlanRecord(
        rows, int(values["samples"]), str(values["load"]), float(values["seconds"]), source, remarks, notes
    )


def _row(values: Mapping[str, Any]) -> PlanRow:
    seconds, spread, peak = (values[name] for name in ("seconds", "spread", "peak_bytes"))
    candidate = Candidate(**values["candidate"])
    if type(candidate.threads) is not int:  # 2.0 == 2, and torch takes no float
        raise TypeError("threads are a whole number")
    if not all(number is None or 0 <= number < math.inf for number in (seconds, spread, peak)) or seconds == 0:
        raise ValueError("times and sizes are finite")
    return PlanRow(
        candidate,
        None if seconds is None else float(seconds),
        None if spread is None else float(spread),
        str(values["agreement"]),
        bool(values["passed"]),
        bool(values["chosen"]),
        None if peak is None else int(peak),
    )
