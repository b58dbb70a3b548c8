"""Loads public names when they are first used, without drawing random numbers."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


def loaded(module: str) -> ModuleType:
    """The module of this full name. Python's random state stays: some libraries draw from it while they are imported,
    which would change what a seed means the first time."""
    random = sys.modules.get("random")  # not imported yet: nobody has seeded it
    state = None if random is None else random.getstate()
    try:
        with without_collecting():
            return import_module(module)
    finally:
        if random is not None:
            random.setstate(state)


@contextmanager
def without_collecting() -> Iterator[None]:
    """No garbage collection while modules are imported: they make a million objects that stay, and scanning them took a
    seventh of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def object_at(place: str) -> Any:
    """The object `module:name`, with the module imported: lists of implementations can name them without loading
    them."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
