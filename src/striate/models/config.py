"""Which network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """Fields of `model.*`."""

    name: str = "auto"
    """A zoo name, a layer string, `file.py:function`; `auto` chooses by the shape of the data and says why."""
