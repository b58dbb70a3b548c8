"""A piece of evidence that is measured once, or found not to be measurable once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from striate.doctor.evidence.clock import NoEvidence

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """A cached property that remembers NoEvidence too: what failed for one check is not tried again for the next."""

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
            except NoEvidence as reason:
                kept[self.name] = reason
        value = kept[self.name]
        if isinstance(value, NoEvidence):
            raise value
        found: Value = value
        return found
