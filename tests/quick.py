"""Which cases of a test run always and which with the slow tests; and how sources are parsed."""

from __future__ import annotations

import ast
import gc
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest


def few_quick(values: Iterable[Any], quick: Collection[Any], *, unpack: bool = False) -> list[Any]:
    """All values as parameters of a test; those that are not in `quick` are slow.

    `unpack`: a value is a tuple of several parameters.
    """
    chosen = [
        pytest.param(*(value if unpack else (value,)), marks=() if value in quick else pytest.mark.slow)
        for value in values
    ]
    assert sum(not parameter.marks for parameter in chosen) == len(quick), "a quick case is no case"
    return chosen


def parsed(source: str) -> ast.Module:
    """The tree of a file. Many of them are nothing but objects that stay: to look through them for garbage meanwhile
    takes three fourths of the time."""
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()


@cache
def parsed_file(path: Path) -> ast.Module:
    """The tree of one of our sources, which several tests look through: not to be changed."""
    return parsed(path.read_text(encoding="utf-8"))
