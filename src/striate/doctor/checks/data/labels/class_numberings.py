"""Words and classes that the data sets of training and validation number differently."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called
from striate.wording import listed, several

_DEPTH = 3
_FEWEST, _DIFFERENT = 3, 0.2
"""The fewest names in both, and the share of them with different numbers."""
_MOST = 1000
_CLASSES = re.compile(r"class|categor|value|vocab|label_?(name|set)|names|palette|color", re.IGNORECASE)
"""Names of lists whose order numbers classes."""


def numbered_twice(evidence: Evidence) -> str | None:
    """The measured difference if names have other numbers in validation than in training; else None."""
    loaders = evidence.setup.train, evidence.setup.val
    train, val = (dict(_numberings(getattr(loader, "dataset", None))) for loader in loaders)
    for path, known in train.items():
        other = val.get(path, known)
        common = known.keys() & other.keys()
        moved = sorted(name for name in common if known[name] != other[name])
        few = len(known) if known.keys() == other.keys() else _FEWEST  # masks may have two values
        if len(common) >= min(few, _FEWEST) and len(moved) > _DIFFERENT * len(common):
            name, both = moved[0], several(len(common), "name")
            return (
                f"`{path}` differs between the data sets of training and validation: of {both} in both, "
                f"{len(moved):,} have another number, such as {name!r}: {known[name]} and {other[name]}"
            )
    return _ordered_differently(evidence)


def _ordered_differently(evidence: Evidence) -> str | None:
    """The measured difference if a script passes the same class names in different orders to the data sets of training
    and of validation, which need not store them; else None."""
    kinds = {type(_innermost(loader)).__name__ for loader in (evidence.setup.train, evidence.setup.val)}
    source = evidence.setup.source
    if source is None or len(kinds) > 1:
        return None
    known = dict[str, tuple[str, list[Any]]]()
    for owner in (node for node in source.nodes(ast.ClassDef) if node.name in kinds):
        begin = [part for part in owner.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        sites = source.calls(owner.name) if begin else []
        for name, given in (pair for site in sites for pair in source.arguments(begin[0], site.node)):
            names = _names_given(source, given) if _CLASSES.search(name) else []
            text, first = known.setdefault(name, (ast.unparse(given), names))
            if names != first and sorted(names) == sorted(first):
                return (
                    f"`{owner.name}` gets the same names as `{name}` in two orders: `{text}` are "
                    f"{listed(first[:4])}, `{ast.unparse(given)}` are {listed(names[:4])}"
                )
    return None


def _innermost(loader: Any) -> Any:
    data: Any = getattr(loader, "dataset", None)
    while hasattr(data, "dataset"):
        data = data.dataset
    return data


def _names_given(source: ScriptSource, node: ast.expr) -> list[str]:
    """The names that an expression lists, or sorts, if all are different strings; else an empty list."""
    if isinstance(node, ast.Name) and source.value(node) is None:
        node = source.last_value(node, node.id) or node
    sorts = isinstance(node, ast.Call) and called(node) in ("sorted", "list", "tuple") and len(node.args) == 1
    value = source.value(node.args[0] if sorts and isinstance(node, ast.Call) else node)
    names = list(value) if isinstance(value, list | tuple | dict) else []
    if len(set(names)) < max(2, len(names)) or not all(isinstance(name, str) for name in names):
        return []
    return sorted(names) if called(node) == "sorted" else names


def _numberings(thing: Any, path: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Mappings from names to numbers, with their attribute paths, in an object and in the user's objects that it
    holds."""
    held = getattr(thing, "__dict__", None)
    if not isinstance(held, dict) or not depth:
        return
    for name, value in held.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
            if all(isinstance(number, int) and not isinstance(number, bool) for number in value.values()):
                yield place, value
        elif isinstance(value, list | tuple) and _CLASSES.search(name) and 1 < len(set(map(str, value))) == len(value):
            yield place, {str(one): number for number, one in enumerate(value[:_MOST])}
        elif name == "dataset" or written_by_user(type(value).__module__):
            yield from _numberings(value, place, depth - 1)
