"""Behind `limit:` a finding shows the rule by which it was made: one clause, not all that its check knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from quick import parsed_file
from striate.doctor import checks
from striate.doctor.checks.check import Check
from striate.doctor.checks.every import every_check
from striate.doctor.checks.own_run import NETWORK_CHECKS, REWARD_CHECKS
from striate.doctor.checks.own_run.predictions import PREDICTION_CHECKS

LONGEST = 300
NAMES = ("limit", "threshold")
SOME = "0.0001"  # in the place of what only a run knows
ROOT = Path(checks.__path__[0])


def _trees() -> dict[Path, ast.Module]:
    return {path: parsed_file(path) for path in sorted(ROOT.rglob("*.py"))}


def test_no_limit_is_longer_than_three_lines() -> None:
    found = [check.threshold for check in (*every_check(), *PREDICTION_CHECKS, *NETWORK_CHECKS, *REWARD_CHECKS)]
    for path, tree in _trees().items():
        found += [_text(given, _names(path)) for given in _limits(tree)]
    assert len(found) > 300
    assert [text for text in found if len(text) > LONGEST] == []


def test_each_finding_has_a_limit() -> None:
    missing = [
        f"{path.name}, line {node.lineno}"
        for path, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "finding"
        if isinstance(check := _names(path).get(ast.unparse(node.func.value)), Check) and not check.threshold
        if not any(word.arg == "limit" for word in node.keywords)
    ]
    assert missing == []


def _names(path: Path) -> Mapping[str, Any]:
    inside = path.relative_to(ROOT).with_suffix("").parts
    return vars(import_module(".".join((checks.__name__, *inside))))


def _limits(tree: ast.AST) -> Iterator[ast.expr]:
    """What a variable of such a name is made of, and what is given to a parameter of such a name."""
    places = {
        node.name: names.index("limit")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "limit" in (names := [part.arg for part in node.args.args])
    }
    for node in ast.walk(tree):
        named = node.arg if isinstance(node, ast.keyword) else None
        named = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else named
        if isinstance(node, ast.keyword | ast.Assign) and named in NAMES:
            yield node.value
        elif isinstance(node, ast.Call) and (place := places.get(ast.unparse(node.func))) is not None:
            yield from node.args[place : place + 1]


def _text(node: ast.expr, names: Mapping[str, Any]) -> str:
    if isinstance(node, ast.IfExp):
        return max(_text(node.body, names), _text(node.orelse, names), key=len)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, names) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, names) or SOME
    value = names.get(node.id) if isinstance(node, ast.Name) else node.value if isinstance(node, ast.Constant) else ""
    return value if isinstance(value, str) else ""
