"""`data.target-in-input` of series: is a moving average, which is an input, taken over later times too?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_constant, nodes_in, receiver_of
from striate.records import Finding
from striate.wording import several

_DERIVING = ("shift", "rolling", "diff", "pct_change", "ewm", "expanding")
_DROPPING = ("drop", "pop", "difference")


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for site in source.calls("rolling"):
        rolling, column = site.node, _column_of(receiver_of(site.node))
        centered = any(word.arg == "center" and is_constant(word.value, True) for word in rolling.keywords)
        feature = _assigned_column(source, rolling)
        if not centered or not column or not feature or column == feature:
            continue
        given = [*rolling.args[:1], *(word.value for word in rolling.keywords if word.arg == "window")]
        window, shift = source.value(given[0]) if given else None, _shift_after(source, rolling)
        if not isinstance(window, int) or shift is None or shift > (window - 1) // 2:
            continue
        if not _is_target(source, column, feature):
            continue
        last = (window - 1) // 2 - shift
        yield CENTERED_WINDOWS.finding(
            severity="error",
            where=site.where,
            measured=f"the column `{feature}` is computed with `{ast.unparse(rolling)}`: its windows end "
            + (
                f"{several(last, 'step')} after the time that is predicted" if last else "at the time that is predicted"
            ),
            why=f"The average contains the value of `{column}` that is to be predicted, so validation is far better "
            "than any forecast will be.",
            remedy="average over earlier times only: "
            f"`{ast.unparse(receiver_of(rolling) or rolling)}.rolling({window}).mean().shift(1)`",
        )
        return


def _column_of(node: ast.expr | None) -> str:
    """The name of a column, `frame["demand"]`, also behind methods such as `shift`."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return ""


def _assigned_column(source: ScriptSource, node: ast.AST) -> str:
    """The column to which the result is assigned."""
    statement = next(source.enclosing(node, ast.Assign), None)
    return "" if statement is None else _column_of(statement.targets[0])


def _shift_after(source: ScriptSource, rolling: ast.Call) -> int | None:
    """By how many times the average is shifted afterwards, or its column before; None if unknown."""
    around = [part for part in source.enclosing(rolling, ast.Call) if called(part) == "shift"]
    inside = [part for part in nodes_in(receiver_of(rolling) or rolling, ast.Call) if called(part) == "shift"]
    total = 0
    for call in {*around, *inside}:
        value = source.value(call.args[0]) if call.args else 1
        if not isinstance(value, int):
            return None
        total += value
    return total


def _is_target(source: ScriptSource, column: str, feature: str) -> bool:
    """Whether a column is read by itself, and is left out where the inputs are listed or dropped."""
    lists = [
        {part.value for part in node.elts if isinstance(part, ast.Constant)}
        for node in source.nodes()
        if isinstance(node, ast.List | ast.Tuple)
    ]
    listed = any(feature in names and column not in names for names in lists)
    dropped = any(is_constant(part, column) for site in source.calls(*_DROPPING) for part in ast.walk(site.node))
    alone = [node for node in source.nodes(ast.Subscript) if _names_only(node.slice, column)]
    read = (node for node in alone if isinstance(node.ctx, ast.Load))
    outer = (source.parent(node) for node in read)
    itself = any(not isinstance(part, ast.Attribute) or part.attr not in _DERIVING for part in outer)
    return itself and (listed or dropped)


def _names_only(node: ast.expr, column: str) -> bool:
    return is_constant(node, column) or (
        isinstance(node, ast.List) and len(node.elts) == 1 and is_constant(node.elts[0], column)
    )


CENTERED_WINDOWS = Check(
    codes=("data.target-in-input",),
    threshold="`rolling(..., center=True)` of the column that is the target, assigned to one that is an input, and "
    "shifted by less than half of the window afterwards",
    run=_run,
    of_source=True,
    explains="fit.*",
)
