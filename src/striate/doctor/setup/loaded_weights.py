"""Weights that a script loads into its networks with `load_state_dict(…, strict=False)`, which ignores unknown
names."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from striate.doctor.setup.reached_objects import written_by_user


@dataclass(frozen=True)
class LoadedWeights:
    """The last call of `load_state_dict(…, strict=False)` of a module; a later strict call removes the record."""

    module: nn.Module
    where: str
    """File and line of the call."""
    names: tuple[str, ...]
    """Names of the tensors in the state dict that was loaded."""
    matched: int
    """How many of them the module has too."""
    module_names: tuple[str, ...]
    """Names of the module's own tensors."""

    @property
    def renamed(self) -> str:
        """The expression that corrects the names where they differ by a common prefix; else empty."""
        own, half = set(self.module_names), len(self.names) / 2
        for prefix in _prefixes(self.names[0]):
            if sum(name.removeprefix(prefix) in own for name in self.names) > half:
                return f"{{name.removeprefix({prefix!r}): tensor for name, tensor in state.items()}}"
        for prefix in _prefixes(self.module_names[0]):
            if sum(prefix + name in own for name in self.names) > half:
                return f"{{{prefix!r} + name: tensor for name, tensor in state.items()}}"
        return ""


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) + "." for count in range(1, len(parts)))


@contextmanager
def watched_loads(found: dict[int, LoadedWeights]) -> Iterator[None]:
    """While the body runs, the last call of `load_state_dict(…, strict=False)` for each module is recorded in `found`,
    by the module's id; a later strict call removes it."""
    original = nn.Module.load_state_dict

    def load(self: nn.Module, state_dict: Mapping[str, Any], *args: Any, **more: Any) -> Any:
        result = original(self, state_dict, *args, **more)
        found.pop(id(self), None)
        strict = args[0] if args else more.get("strict", True)
        if not strict:
            own, given = tuple(self.state_dict()), tuple(state_dict)
            found[id(self)] = LoadedWeights(self, _caller(), given, len(set(given) & set(own)), own)
        return result

    nn.Module.load_state_dict = load  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.load_state_dict = original  # type: ignore[method-assign]


def _caller() -> str:
    frame: Any = sys._getframe(2)
    while frame is not None and not written_by_user(frame.f_globals.get("__name__")):
        frame = frame.f_back
    return "load_state_dict" if frame is None else f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
