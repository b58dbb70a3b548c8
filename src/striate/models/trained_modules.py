"""Which modules this process has trained, and in which runs: there is no other record for weights in memory."""

from __future__ import annotations

from pathlib import Path
from weakref import WeakKeyDictionary

from torch import nn

_runs: WeakKeyDictionary[nn.Module, tuple[Path, ...]] = WeakKeyDictionary()


def note_trained(module: nn.Module, run: Path) -> None:
    """Record that `run` has trained `module`."""
    _runs[module] = (*(path for path in _runs.get(module, ()) if path != run), run)


def runs_of_module(module: nn.Module) -> tuple[Path, ...]:
    """The runs that trained the module or a part of it, in order; not those of a copy."""
    return tuple(dict.fromkeys(run for part in module.modules() for run in _runs.get(part, ())))
