"""Which network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """Fields of `model.*`."""

    name: str = "auto"
    """A zoo name, a layer string, `file.py:function`, a run; `auto` chooses by the shape of the data and says why."""
    digest: str | None = None
    """What was decided: the SHA-256 of the file behind `file.py:function`. A run goes on only with the same file."""
