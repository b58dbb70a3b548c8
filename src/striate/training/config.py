"""A run as one value: the complete frozen tree that is saved as config.yaml, free of torch.

`None` in a field means "not decided yet"; `recipes.py` decides it before training starts, so that the saved
file has no such field left except those that stay unused by choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from striate.data.config import AugmentConfig, DataConfig
from striate.models.config import ModelConfig
from striate.tasks.config import TaskConfig


@dataclass(frozen=True)
class OptimizerConfig:
    """Fields of `optim.*`."""

    name: Literal["sgd", "adamw"] | None = None
    lr: Annotated[float, Gt(0), Le(1e30)] | None = None
    """Peak learning rate; the schedule scales it."""
    weight_decay: Annotated[float, Ge(0), Le(1e6)] | None = None
    """Decay of weights (never of biases and normalization parameters)."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Momentum of `sgd`."""
    nesterov: bool = True
    """Nesterov's form of the momentum of `sgd`."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.999)
    """Decay of the running moments of `adamw`."""


@dataclass(frozen=True)
class ScheduleConfig:
    """Fields of `schedule.*`: the learning rate over the run, as a share of `optim.lr`."""

    name: Literal["one-cycle", "cosine", "step", "constant"] = "one-cycle"
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.2
    """Share of all steps in which the rate rises from a 25th to its peak (`one-cycle`, `cosine`)."""
    final: Annotated[float, Ge(0), Le(1)] = 0.001
    """Share of the peak that is left at the end (`one-cycle`, `cosine`)."""
    milestones: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.5, 0.75)
    """Shares of all steps after which the rate drops (`step`)."""
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1
    """What the rate is multiplied with at each milestone (`step`)."""


@dataclass(frozen=True)
class BudgetConfig:
    """Fields of `budget.*`: how long to train."""

    epochs: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    minutes: Annotated[float, Gt(0), Le(525_600)] | None = None
    """Wall-clock minutes; `steps` is fixed from the speed measured at the start."""
    steps: Annotated[int, Ge(1)] | None = None
    """What was decided: optimizer steps in all."""


@dataclass(frozen=True)
class ExecutionConfig:
    """Fields of `execution.*`: how it is computed, frozen at the start so that a repeat takes the same path."""

    device: str | None = None
    """`cpu`, `cuda` or `cuda:1`; None takes a GPU where there is one."""
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` computes the convolutions and matrix products of training steps in bfloat16 and keeps weights in fp32;
    validation and evaluation are fp32."""
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    recipe: Literal["quick", "standard"] = "standard"
    batch: Annotated[int, Ge(1), Le(1_000_000)] | None = None
    """Samples in one optimizer step."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    """Initialization, order of samples, augmentation and dropout all follow from it."""
    decided: tuple[str, ...] = ()
    """Which fields the recipe or the data decided: open again when what they follow from is replaced."""
