"""Trials in which some calls of functions do something else: what a line of the network or the loss costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

from striate.doctor.evidence.flow import Call
from striate.doctor.evidence.tracing import name_of
from striate.doctor.evidence.trial import Change
from striate.doctor.patient.copies import Double

Instead = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Is given the function, its arguments and its named arguments, and gives the result."""


def first_argument(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call is given, for what it gives: the call is left out."""
    return args[0] if args else next(iter(kwargs.values()))


def replaced(calls: tuple[Call, ...], instead: Instead) -> Change:
    """A change in which these calls, as they were met in one step, do something else in every step."""
    wanted = {(call.name, call.ordinal) for call in calls}
    steps: list[Any] = []

    def prepare(double: Double) -> None:
        steps.append(double.step)

    def step(*args: Any) -> Any:
        with _Replacing(wanted, instead):
            return steps[-1](*args)

    return Change(step=step, prepare=prepare)


class _Replacing(TorchFunctionMode):
    def __init__(self, wanted: set[tuple[str, int]], instead: Instead) -> None:
        super().__init__()
        self.wanted, self.instead, self.count = wanted, instead, Counter[str]()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        here = (name, self.count[name])
        self.count[name] += 1
        return self.instead(func, args, kwargs) if here in self.wanted else func(*args, **kwargs)
