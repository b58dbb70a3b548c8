"""Public names that are loaded when first used, and draw no random number on the way."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


def loaded(module: str) -> ModuleType:
    """The module of that full name. Python's random state stays as it is: some libraries draw from it while they are
    imported, and a seed that was set before would mean something else the first time."""
    random = sys.modules.get("random")  # where it was never imported, nobody has chosen a state
    state = None if random is None else random.getstate()
    try:
        with without_collecting():
            return import_module(module)
    finally:
        if random is not None:
            random.setstate(state)


@contextmanager
def without_collecting() -> Iterator[None]:
    """No garbage collection while modules are imported: they make a million objects that stay, and to look through
    them took a seventh of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def object_at(place: str) -> Any:
    """What `module:name` says, with the module imported; so lists of implementations name them without loading them."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
