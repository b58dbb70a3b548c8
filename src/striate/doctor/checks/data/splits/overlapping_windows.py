"""Lists of windows that overlap, as a loop over positions of a series cuts them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, called, names_in, nodes_in, receiver_of

_SHARED = 2.0
"""The least length of a window, in steps between windows: neighbors have half in common."""
_PLACE = 1000  # of a window, for which its bounds are computed


def lists_of_windows(source: ScriptSource) -> dict[ast.AST, set[str]]:
    """By function or module, the names of lists of windows that overlap, of a comprehension or of a loop that appends
    them."""
    found: dict[ast.AST, set[str]] = {}
    for line in source.nodes(ast.Assign):
        named = (target.id for target, value in assigned(line) if isinstance(target, ast.Name) and _cut(value, source))
        found.setdefault(source.scope_of(line), set()).update(named)
    for loop in source.nodes(ast.For):
        if not _cuts_windows(loop, loop.target, loop.iter, source):
            continue
        for part in nodes_in(loop.body, ast.Call):
            owner = receiver_of(part)
            if called(part) == "append" and isinstance(owner, ast.Name):
                found.setdefault(source.scope_of(loop), set()).add(owner.id)
    return found


def makes_windows(
    value: ast.expr,
    lists: dict[ast.AST, set[str]],
    source: ScriptSource,
    within: frozenset[ast.AST] = frozenset(),
) -> bool:
    """Whether an expression is a list or an array of windows that overlap: of a list or a comprehension in the same
    function, or the first result of a function. `within`: functions that are being read."""
    for part in _first_arguments(value):
        if isinstance(part, ast.Name) and part.id in lists.get(source.scope_of(part), ()):
            return True
        if _cut(part, source):
            return True
        functions = set(source.functions_of(part)) - within if isinstance(part, ast.Call) else set()
        returned = [node.value for one in functions for node in nodes_in(one, ast.Return) if node.value is not None]
        first = [given.elts[0] if isinstance(given, ast.Tuple) and given.elts else given for given in returned]
        if any(makes_windows(given, lists, source, within | functions) for given in first):
            return True
    return False


def _cut(part: ast.expr, source: ScriptSource) -> bool:
    """Whether a comprehension over positions cuts windows that overlap."""
    if not isinstance(part, ast.ListComp) or len(part.generators) != 1:
        return False
    one = part.generators[0]
    return _cuts_windows(part.elt, one.target, one.iter, source)


def _first_arguments(value: ast.expr) -> Iterator[ast.expr]:
    """An expression and what its calls are given first, or called on, what is indexed and what is divided or shifted:
    `xs` of `torch.tensor(np.array(xs)[..., None] / scale).float()`."""
    yield value
    if isinstance(value, ast.Subscript):
        yield from _first_arguments(value.value)
    if isinstance(value, ast.BinOp):
        yield from _first_arguments(value.left)
    if isinstance(value, ast.Call):
        owner = receiver_of(value)
        for part in (*value.args[:1], *([owner] if isinstance(owner, ast.Call) else [])):
            yield from _first_arguments(part)


def _cuts_windows(body: ast.AST, target: ast.expr, positions: ast.expr, source: ScriptSource) -> bool:
    """Whether a part that is repeated for each position of a range cuts windows which have half in common."""
    if not isinstance(target, ast.Name) or not isinstance(positions, ast.Call) or called(positions) != "range":
        return False
    step = source.value(positions.args[2]) if len(positions.args) == 3 else 1
    if not isinstance(step, int) or step < 1:
        return False
    for part in nodes_in(body, ast.Subscript):
        cut = part.slice.elts[0] if isinstance(part.slice, ast.Tuple) and part.slice.elts else part.slice
        if not isinstance(cut, ast.Slice) or cut.lower is None or cut.upper is None or cut.step is not None:
            continue
        if target.id not in names_in(cut.lower) & names_in(cut.upper):
            continue
        begin, after, end = (
            source.value(bound, **{target.id: place})
            for bound, place in ((cut.lower, _PLACE), (cut.lower, _PLACE + step), (cut.upper, _PLACE))
        )
        if all(isinstance(bound, int) for bound in (begin, after, end)):
            if end - begin >= _SHARED * (after - begin) > 0:
                return True
        elif step == 1 and any(isinstance(bound, ast.Name) for bound in (cut.lower, cut.upper)):
            return True
    return False
