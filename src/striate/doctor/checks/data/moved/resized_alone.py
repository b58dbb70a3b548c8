"""Points and boxes that stay as they are while their images are resized."""

from __future__ import annotations

import ast
import re

from striate.doctor.checks.data.moved.left_behind import left_behind
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, called, last_name, names_in, nodes_in, variable_of
from striate.records import Finding
from striate.wording import percent

_POINTS = re.compile(
    r"(^|_)(key_?)?(points?|pts|kpts?|landmarks?|corners?|box(es)?|bbox(es)?|coord(s|inates?)?)($|_)", re.I
)
_MODULES = frozenset(("np", "numpy", "torch", "self", "math"))
_SMALL = 8
"""Numbers up to this one halve or square a side, and are no side of an image."""
_OUTSIDE = 0.1
"""The least share of coordinates beyond the image."""


def resized_alone(evidence: Evidence) -> Finding | None:
    """A finding for points in pixels of the original image beside a resized one: coordinates beyond the image, or ones
    that are divided by the new size and by nothing else; None where there is none."""
    source, x, y = evidence.setup.source, evidence.samples.x, evidence.samples.y
    if source is None or x is None or y is None or x.ndim != 4 or not y.is_floating_point():
        return None
    numbers = y.flatten(1)
    if numbers.shape[1] < 4 or numbers.shape[1] % 2:
        return None
    for site in source.calls("resize", "interpolate", "Resize"):
        sizes = [*site.node.args, *(word.value for word in site.node.keywords)]
        new = set[str]().union(*(_named(part) for part in sizes))
        scope = _scope(source, site.node)
        points = _points_of(scope)
        if not points:
            continue
        used = _scaled_by(scope, points)
        outside = float((numbers > max(x.shape[-2:])).double().mean())
        if not any(used.values()) and outside >= _OUTSIDE:
            side = max(x.shape[-2:])
            how = f"{percent(outside, 0)} of the coordinates are larger than the side of the image, {side} pixels"
        elif _opens_images(scope) and any(used.values()) and not any(names - new for names in used.values()):
            divided = next((text for text, names in used.items() if names), "")
            how = f"the points are divided by the new size alone: `{divided}`"
        else:
            continue
        return left_behind(
            site.where,
            f"`{site.text}` resizes the image, and its points stay in pixels of the original one: {how}",
            f"a resized image, with {percent(_OUTSIDE, 0)} of the coordinates beyond it, or points that are divided by "
            "the new size without the original one",
            "The points are beside what they mark, by another distance in images of another size.",
            "scale the points with the image: multiply columns by `new_width / width`, and rows by `new_height / "
            "height`, with the size before it is resized",
        )
    return None


def _opens_images(scope: ast.AST) -> bool:
    """Whether images come from files, and none is drawn: drawn ones may be larger on purpose, to be smooth."""
    calls = {called(call) for call in nodes_in(scope, ast.Call)}
    return bool(calls & {"open", "imread", "imdecode", "read_image", "decode_image"}) and "new" not in calls


def _scope(source: ScriptSource, node: ast.AST) -> ast.AST:
    """The class or function that a call is in, or else the module."""
    around = list(source.enclosing(node, ast.ClassDef, ast.FunctionDef, ast.Module))
    return next((part for part in around if isinstance(part, ast.ClassDef)), around[0])


def _points_of(scope: ast.AST) -> set[str]:
    """The variables and attributes that hold points by their names, and those that are computed from them."""
    found = {name for node in nodes_in(scope, ast.Name, ast.Attribute, ast.arg) if _POINTS.search(name := _name(node))}
    before: set[str] = set()
    while before != found:
        before = set(found)
        for statement in nodes_in(scope, ast.Assign):
            for target, value in assigned(statement):
                if isinstance(value, ast.BinOp | ast.Subscript) and _mentioned(value) & found:
                    found |= {variable_of(target)} - {"", "self"}
    return found


def _scaled_by(scope: ast.AST, points: set[str]) -> dict[str, set[str]]:
    """The products and quotients of points, as text, each with the names and numbers that they are scaled by."""
    terms: list[tuple[ast.AST, ast.AST, ast.operator, ast.AST]] = [
        (node, node.left, node.op, node.right) for node in nodes_in(scope, ast.BinOp)
    ]
    terms += [(node, node.target, node.op, node.value) for node in nodes_in(scope, ast.AugAssign)]
    found = dict[str, set[str]]()
    for node, left, operator, right in terms:
        if isinstance(operator, ast.Mult | ast.Div) and (_mentioned(left) | _mentioned(right)) & points:
            divided = isinstance(operator, ast.Div) and not _mentioned(right) & points
            # A product with the new size is right for points that are shares of the image: "*" is no new size.
            names = _named(right) if divided else _named(left) | _named(right) | {"*"}
            found[ast.unparse(node)] = names - points
    return found


def _named(node: ast.AST) -> set[str]:
    """Names of variables and attributes, and numbers that may be sides, in an expression."""
    numbers = (
        str(part.value)
        for part in nodes_in(node, ast.Constant)
        if isinstance(part.value, int | float) and part.value > _SMALL
    )
    return (_mentioned(node) - _MODULES) | set(numbers)


def _mentioned(node: ast.AST) -> set[str]:
    """Names of variables and attributes."""
    return names_in(node) | {part.attr for part in nodes_in(node, ast.Attribute)}


def _name(node: ast.AST) -> str:
    return node.arg if isinstance(node, ast.arg) else last_name(node)
