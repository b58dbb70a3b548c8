"""Fractions that are stored in an array of whole numbers, which cuts them off."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import argument, assigned, called, is_operation, last_name, nodes_in
from striate.records import Finding

_MAKERS = {"zeros": 1, "empty": 1, "ones": 1, "full": 2}
"""Functions that make arrays, each with the place of the type among NumPy's arguments."""
_BYTES = frozenset(("uint8", "byte"))
_WHOLE = _BYTES | {"int", "int8", "int16", "int32", "int64", "uint16", "short", "long"}
_PIXELS = 4
"""The fewest different values of inputs that may have been fractions."""


def _find_fractions_lost(evidence: Evidence) -> Iterable[Finding]:
    source = evidence.source
    stored = next(_stored_quotients(source), None)
    x = None if stored is None else evidence.samples.x
    if stored is None or x is None or x.is_complex() or bool((x != x.round()).any()) or len(x.unique()) < _PIXELS:
        return
    statement, target, made, value = stored
    kind, array = _type_of(made), ast.unparse(target.value)
    wraps = ", and numbers below 0 wrap around, as -1 becomes 255" if kind in _BYTES else ""
    yield FRACTIONS_LOST.finding(
        severity="error",
        where=source.where(statement),
        measured=f"`{ast.unparse(value)}` is stored in `{array}`, an array of {kind}: fractions are cut off{wraps}; "
        "all inputs of the network are whole numbers",
        why="Standardized inputs have only a few whole values, so most of what they show is lost.",
        remedy=f"give the array a floating type: `{array} = {_floating(made)}`",
    )


def _stored_quotients(source: ScriptSource) -> Iterator[tuple[ast.Assign, ast.Subscript, ast.Call, ast.expr]]:
    """Quotients that are assigned to items of an array that is made with a type of whole numbers: the assignment, its
    target, the call that makes the array, and the quotient."""
    arrays = {
        (source.file_of(statement), ast.unparse(target)): value
        for statement in source.nodes(ast.Assign)
        for target, value in assigned(statement)
        if isinstance(value, ast.Call) and _type_of(value) in _WHOLE
    }
    for statement in source.nodes(ast.Assign) if arrays else ():
        for target, value in assigned(statement):
            if not isinstance(target, ast.Subscript):
                continue
            made = arrays.get((source.file_of(statement), ast.unparse(target.value)))
            given = source.last_value(statement, value.id) if isinstance(value, ast.Name) else value
            if made is not None and given is not None and _is_quotient(given):
                yield statement, target, made, given


def _type_of(made: ast.Call) -> str:
    """The name of the type of numbers that a call makes an array of; empty where it says none."""
    given = _given_type(made)
    if isinstance(given, ast.Constant):
        return str(given.value)
    return "" if given is None else last_name(given)


def _given_type(made: ast.Call) -> ast.expr | None:
    place = _MAKERS.get(called(made))
    return None if place is None else argument(made, place, "dtype")


def _is_quotient(value: ast.expr) -> bool:
    """Whether a value is a quotient, or a sum or difference with one."""
    if is_operation(value, ast.Add, ast.Sub):
        return _is_quotient(value.left) or _is_quotient(value.right)
    return is_operation(value, ast.Div)


def _floating(made: ast.Call) -> str:
    """The call with a floating type in place of its own."""
    own, module = _given_type(made), next((part.id for part in nodes_in(made.func, ast.Name)), "np")
    assert own is not None, "its type is known"
    return f"{module}.float32".join(ast.unparse(made).rsplit(ast.unparse(own), 1))


FRACTIONS_LOST = Check(
    codes=("data.not-normalized",),
    run=_find_fractions_lost,
    threshold="a quotient stored in an array of whole numbers, and inputs that are all whole numbers",
    of_source=True,
)
