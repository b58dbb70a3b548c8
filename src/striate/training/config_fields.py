"""The description of each field of the configuration, as `--help` shows it: text, kind, choices, range and default.

Its source is the configuration itself: the docstring under a field, its type and its default.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from striate.models.trusted_code import names_code
from striate.tasks.every import NAMES as TASK_NAMES
from striate.training.config import Config
from striate.training.config_file import field_names, get_field

_KINDS = {bool: "BOOL", int: "INT", float: "FLOAT", str: "TEXT"}
_NAMES = {"task.name": (*TASK_NAMES, "file.py:name")}  # names that no type lists
_WRITTEN = "Recorded by the run: "


class Values(NamedTuple):
    """The values that a field takes."""

    kind: str
    """`CHOICE`, or the type as one word."""
    choices: tuple[str, ...]
    """The values, where they are words; else empty."""
    range: str
    """The range of numbers in words; empty without limits."""


@dataclass(frozen=True)
class Field:
    """One field of the configuration."""

    name: str
    """Dotted: `optim.lr`."""
    text: str
    """The docstring under the field, on one line."""
    values: Values
    """The values that it takes."""
    default: Any
    """As in config.yaml. None: left open."""
    written: bool
    """Whether a run writes it, rather than a user."""

    @property
    def section(self) -> str:
        """`optim` of `optim.lr`; empty for a field of the run itself."""
        return self.name.rpartition(".")[0]

    @property
    def help(self) -> str:
        """The text, then choices, range and default, unless the text contains them."""
        parts = [self.text]
        if any(choice not in self.text for choice in self.values.choices) and len("|".join(self.values.choices)) >= 20:
            parts.append(f"One of {', '.join(self.values.choices)}.")
        if self.values.range:
            parts.append(f"Range: {self.values.range}.")
        stated = self.default is None or self.default is False or self.default == () or "Default:" in self.text
        if not stated:
            default = list(self.default) if isinstance(self.default, tuple) else self.default
            parts.append(f"Default: {str(default).lower() if default is True else default}.")
        return " ".join(parts)


@cache
def config_fields() -> dict[str, Field]:
    """Every field of the configuration by its dotted name, in order."""
    default = Config()
    found = {}
    for name, kind, hint in _leaves(Config, ""):
        text = _docstrings(kind).get(name.rpartition(".")[2], "")
        written = text.startswith(_WRITTEN)
        if written:
            text = text[len(_WRITTEN) :][:1].upper() + text[len(_WRITTEN) + 1 :]
        found[name] = Field(name, text, values_of(hint, _NAMES.get(name, ())), get_field(default, name), written)
    assert tuple(found) == field_names()
    return found


@cache
def sections() -> dict[str, str]:
    """Each section of the configuration and its description, in order."""
    return {name: _heading(inspect.getdoc(kind) or "") for name, kind in _sections(Config, "")}


def _sections(kind: type[Any], prefix: str) -> Iterator[tuple[str, type[Any]]]:
    for name, inner in get_type_hints(kind).items():
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield f"{prefix}{name}", inner
            yield from _sections(inner, f"{prefix}{name}.")


def values_of(hint: Any, names: Sequence[str] = ()) -> Values:
    """The values that the type of a field takes, and the further `names`. `None`, which leaves the field open, is not
    listed."""
    choices = list(names)
    kinds: list[str] = []
    ranges: list[str] = []
    for part in get_args(hint) if _is_union(hint) else (hint,):
        limits: list[Any] = []
        if get_origin(part) is Annotated:
            part, *limits = get_args(part)
        if get_origin(part) is Literal:
            choices += map(str, get_args(part))
        elif any(getattr(limit, "func", None) is names_code for limit in limits):
            choices.append("file.py:name")
        elif get_origin(part) is tuple:
            kinds.append("LIST")
        elif part in _KINDS:
            kinds.append(_KINDS[part])
            ranges.append(_range(limits))
    if choices and kinds:
        choices = [*(("true", "false") if kinds == ["BOOL"] else kinds), *choices]
    return Values("CHOICE" if choices else kinds[0], tuple(choices), " or ".join(filter(None, ranges)))


def _is_union(hint: Any) -> bool:
    return type(None) in get_args(hint) or (
        get_origin(hint) not in (Annotated, Literal, tuple) and bool(get_args(hint))
    )


def _range(limits: Sequence[Any]) -> str:
    """`0 to 1`, `above 0`, `at least 1`; without limits that only keep numbers finite."""
    low = next((limit for limit in limits if isinstance(limit, Ge | Gt)), None)
    high = next((limit for limit in limits if isinstance(limit, Le | Lt)), None)
    least: Any = None if low is None else low.ge if isinstance(low, Ge) else low.gt
    most: Any = None if high is None else high.le if isinstance(high, Le) else high.lt
    begins = "" if least is None else f"above {least:g}" if isinstance(low, Gt) else f"{least:g}"
    if most is None or most >= 10_000:
        return begins if isinstance(low, Gt) or not begins else f"at least {begins}"
    return f"{begins} to below {most:g}" if isinstance(high, Lt) else f"{begins} to {most:g}"


def _leaves(kind: type[Any], prefix: str) -> Iterator[tuple[str, type[Any], Any]]:
    """Each dotted field with the class that declares it, and its type."""
    hints, bare = get_type_hints(kind, include_extras=True), get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(bare[field.name]):
            yield from _leaves(bare[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, kind, hints[field.name]


def _docstrings(kind: type[Any]) -> dict[str, str]:
    """The docstring under each field of a dataclass, as one line."""
    return _docstrings_of_module(kind.__module__).get(kind.__name__, {})


@cache
def _docstrings_of_module(name: str) -> dict[str, dict[str, str]]:
    """The docstrings under the fields of each class of a module; empty where the source is not available."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError):
        return {}
    return {node.name: dict(_documented(node.body)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else ""
            yield field.target.id, " ".join(str(text).split()).replace("`", "")


def _heading(docstring: str) -> str:
    text = " ".join(docstring.split()).partition(": ")[2] or docstring
    return (text[:1].upper() + text[1:]).replace("`", "")
