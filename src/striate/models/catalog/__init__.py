"""The zoo and ImageNet's history as data: `networks.toml` and `history.toml`."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any


def read_catalog(file: str) -> dict[str, Any]:
    """What a file of this folder says, its lists as tuples."""
    text = resources.files(__name__).joinpath(file).read_text(encoding="utf-8")
    return {key: _frozen(value) for key, value in tomllib.loads(text).items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list) else value
