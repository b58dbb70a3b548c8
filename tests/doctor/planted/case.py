"""A setup to be diagnosed, and the lists that its builders enter themselves in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass
class Case:
    """The arguments of `striate.diagnose`."""

    model: nn.Module
    train: Any
    val: Any = None
    loss: Any = None
    optimizer: Any = None
    step: Any = None
    task: str = "classify"
    budget_seconds: float = 30

    @property
    def options(self) -> dict[str, Any]:
        """What is given by name."""
        return {
            "loss": self.loss,
            "optimizer": self.optimizer,
            "step": self.step,
            "task": self.task,
            "budget_seconds": self.budget_seconds,
        }


Builder = Callable[[int], Case]


@dataclass(frozen=True)
class Fault:
    """`code` is to be the first or second finding; one of `also` would be right as well."""

    name: str
    code: str
    also: tuple[str, ...]
    build: Builder


@dataclass(frozen=True)
class Healthy:
    """A setup without a fault: no error is to be found in it."""

    name: str
    build: Builder


FAULTS: list[Fault] = []
HEALTHY: list[Healthy] = []


def fault(code: str, also: Iterable[str] = ()) -> Callable[[Builder], Builder]:
    """Enter a builder with the code of its fault."""

    def enter(build: Builder) -> Builder:
        FAULTS.append(Fault(build.__name__, code, tuple(also), build))
        return build

    return enter


def healthy(build: Builder) -> Builder:
    """Enter a builder of a setup without a fault."""
    HEALTHY.append(Healthy(build.__name__, build))
    return build
