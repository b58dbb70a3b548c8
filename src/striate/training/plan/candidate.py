"""A way to compute a training step, and which of those that were timed is taken; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from striate.inference.race import Timing, is_ahead
from striate.training.config import Config, ExecutionConfig

_COMPILED = {"off": "", "default": "compiled", "cuda-graphs": "CUDA graphs"}
_ROUGHNESS = {"fp32": 0, "tf32": 1, "bf16": 2, "fp16": 3}


@dataclass(frozen=True)
class Candidate:
    """What `execution.*` calls by the same names, all decided."""

    precision: str
    memory_format: str
    threads: int
    compile: str = "off"
    allocator: str = "system"

    @property
    def name(self) -> str:
        """`bf16, channels_last, 2 threads, compiled`; the allocator is named where it keeps."""
        kept = "keeps memory" if self.allocator == "keep" else ""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return ", ".join(filter(None, [self.precision, self.memory_format, threads, _COMPILED[self.compile], kept]))

    @property
    def numerics(self) -> tuple[str, str, str]:
        """What decides, up to the order of sums among threads, which numbers come out."""
        return self.precision, self.memory_format, self.compile

    @property
    def plainness(self) -> tuple[int, ...]:
        """Smaller is plainer: eager before compiled, fp32 before its roundings, contiguous before other layouts. The
        allocator changes no number and does not count; of threads fewer leave more to others."""
        layout, compiled = self.memory_format != "contiguous", list(_COMPILED).index(self.compile)
        return compiled, _ROUGHNESS[self.precision], layout, self.threads

    def execution(self, execution: ExecutionConfig) -> ExecutionConfig:
        """`execution` with what this candidate decides."""
        return replace(execution, **asdict(self))

    def config(self, config: Config) -> Config:
        """`config` computed so."""
        return replace(config, execution=self.execution(config.execution))

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def candidate_of(execution: ExecutionConfig) -> Candidate:
    """The candidate that a decided `execution` is."""
    assert execution.precision and execution.memory_format and execution.threads, "decided before"
    return Candidate(
        execution.precision,
        execution.memory_format,
        execution.threads,
        execution.compile or "off",
        execution.allocator or "system",
    )


def choose(timings: Mapping[Candidate, Timing]) -> Candidate:
    """The plainest candidate, or from there on each less plain one that is ahead of what was taken so far; of two that
    are as plain the faster."""
    first, *others = sorted(timings, key=lambda candidate: (candidate.plainness, timings[candidate].seconds))
    taken = first
    for one in others:
        taken = one if is_ahead(timings[one], timings[taken]) else taken
    return taken
