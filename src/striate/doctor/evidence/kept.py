"""A piece of evidence that is measured once, or found not to be measurable once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from striate.doctor.evidence.clock import NoEvidence
from striate.errors import StriateError
from striate.machine.memory import ran_out

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """A cached property that remembers errors too: what failed for one check is not tried again for the next."""

    def __init__(self, measure: Callable[[Any], Value]) -> None:
        self.measure, self.__doc__ = measure, measure.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, evidence: Any, owner: type) -> Value:
        if evidence is None:
            return self  # type: ignore[return-value]
        kept: dict[str, Any] = vars(evidence).setdefault("kept", {})
        if self.name not in kept:
            try:
                kept[self.name] = self.measure(evidence)
            except (NoEvidence, StriateError) as reason:
                kept[self.name] = reason
            except Exception as error:  # whatever nobody thought of costs time once, not once a check
                if ran_out(error):
                    raise
                kept[self.name] = NoEvidence(f"measuring {self.name} failed: {type(error).__name__}: {error}")
        value = kept[self.name]
        if isinstance(value, NoEvidence | StriateError):
            raise value
        found: Value = value
        return found
