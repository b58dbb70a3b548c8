"""The candidates of an execution plan that a device offers for a network, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import torch

from striate.machine.allocator import usual_policy
from striate.machine.precision import bf16_on_cpu, bf16_pays_on_cpu
from striate.training.config import ExecutionConfig
from striate.training.execution import has_compiler, has_maps
from striate.training.plan.plan_table import Candidate, candidate_of
from striate.training.plan.trial import Workload

_COMPILE_SECONDS = 4.0, 0.35  # for loading the compiler, and for each layer (ResNet-18 on two cores: 24 s)
_USUAL_GAIN = {"cpu": 0.05, "cuda": 0.15}  # share of the time that compiling saves, before it is measured


@dataclass(frozen=True)
class Offers:
    """The values that a plan may vary. A field has one value where the user chose it, or where others make no sense."""

    device: str
    """`cpu` or `cuda`."""
    plain: Candidate
    """The candidate without a plan."""
    precisions: tuple[str, ...]
    """Precisions."""
    layouts: tuple[str, ...]
    """Memory formats."""
    threads: tuple[int, ...]
    """Numbers of threads."""
    allocator: str
    """The allocator of all candidates but `plain`."""
    compiles: tuple[str, ...]
    """Modes of `torch.compile`, besides none."""
    compile_seconds: float
    """Seconds that compiling takes, roughly."""
    usual_gain: float
    """Share of the time that compiling usually saves."""

    @property
    def varied(self) -> bool:
        """Whether there is more than one candidate."""
        return len({self.plain, *self.arithmetic(), *self.with_threads(self.plain)}) > 1 or bool(self.compiles)

    def arithmetic(self) -> list[Candidate]:
        """The first stage: precision and memory format, plainest first."""
        plain = replace(self.plain, allocator=self.allocator)
        pairs = product(self.precisions, self.layouts)
        return [replace(plain, precision=precision, memory_format=layout) for precision, layout in pairs]

    def likely(self) -> list[Candidate]:
        """The candidates that are nearly always fastest where steps are long, the fastest first: bf16 where the device
        computes it faster, then tf32 where there is any, then the plain precision; all in channels last."""
        half = ["bf16"] if "bf16" in self.precisions and (self.device != "cpu" or bf16_pays_on_cpu()) else []
        last = {one.precision: one for one in self.arithmetic()}
        precisions = dict.fromkeys([*half, "tf32", self.plain.precision])
        return [last[precision] for precision in precisions if precision in last]

    def quick_candidates(self) -> list[Candidate]:
        """The candidates that plain is compared with where time is short. On an accelerator these are several: short
        steps wait for the host, and the casts of bf16 are more work for it."""
        likely = [one for one in self.likely() if one != self.plain]
        return likely[:1] if self.device == "cpu" else likely

    def with_threads(self, candidate: Candidate) -> list[Candidate]:
        """The candidate with each number of threads."""
        return [replace(candidate, threads=threads) for threads in self.threads]

    def compiled(self, candidate: Candidate) -> list[Candidate]:
        """The candidate with each mode of compiling."""
        return [replace(candidate, compile=how) for how in self.compiles]

    def has(self, candidate: Candidate) -> bool:
        """Whether a search could have reached the candidate."""
        plain, threads = self.plain, candidate.threads
        return (
            candidate.precision in {plain.precision, *self.precisions}
            and candidate.memory_format in {plain.memory_format, *self.layouts}
            and threads in {plain.threads, *self.threads}
            and candidate.compile in {plain.compile, *self.compiles}
            and candidate.allocator in {plain.allocator, self.allocator}
        )

    def compiling_pays(self, remaining: float, slower: float = 1.0) -> bool:
        """Whether `remaining` seconds of training are enough to try compiling, which is done for the trial and again,
        faster, for the run. `slower`: how many times as long compiling takes as on idle cores."""
        return bool(self.compiles) and remaining * self.usual_gain > 1.5 * slower * self.compile_seconds


def offers_for(work: Workload, request: ExecutionConfig) -> Offers:
    """What a plan may vary. `request` has None in each field that is open; `work.config` is the configuration without a
    plan."""
    execution, module = work.config.execution, work.state.module
    device = torch.device(execution.device or "cpu").type
    plain = replace(candidate_of(execution), allocator=request.allocator or "system")
    local_rule = work.config.optim.name == "local-rule"
    precisions: tuple[str, ...] = ("fp32",) if local_rule else _precisions(torch.device(execution.device or "cpu"))
    layouts = ("contiguous", "channels_last") if has_maps(module) and not local_rule else ("contiguous",)
    # Auxiliary heads and penalties on activations use hooks, which compiled code does not call.
    hooks = work.state.heads is not None or work.config.regularize.penalizes_activations
    compiler = device == "cuda" or has_compiler()
    compiles = () if local_rule or hooks or not compiler else _compiles(device)
    calls = sum(1 for part in module.modules() if not list(part.children()))
    # The threads of the host do not matter to a GPU.
    one_number = bool(request.threads) or work.train.inputs.ndim == 2 or device == "cuda"
    return Offers(
        device,
        plain,
        (request.precision,) if request.precision else precisions,
        (request.memory_format,) if request.memory_format else layouts,
        (plain.threads,) if one_number else _threads(work.threads),
        request.allocator or (plain.allocator if device == "cuda" else usual_policy()),
        () if request.compile else compiles,
        _COMPILE_SECONDS[0] + _COMPILE_SECONDS[1] * calls,
        _USUAL_GAIN.get(device, 0.05),
    )


def _precisions(device: torch.device) -> tuple[str, ...]:
    if device.type == "cpu":
        return ("fp32", "bf16") if bf16_on_cpu() else ("fp32",)
    if device.type == "cuda":
        recent = torch.cuda.get_device_capability(device) >= (8, 0)
        return ("fp32", "tf32", "bf16", "fp16") if recent else ("fp32", "fp16")
    return ("fp32",)


def _compiles(device: str) -> tuple[str, ...]:
    return ("default", "cuda-graphs") if device == "cuda" else ("default",)


def _threads(most: int) -> tuple[int, ...]:
    """All threads, half of them, one."""
    return tuple(sorted({most, max(1, most // 2), 1}, reverse=True))
