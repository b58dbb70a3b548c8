"""Evaluations whose code searches the nearest neighbor of each sample among the same samples."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import called, is_operation, names_in, nodes_in, receiver_of

_CHOSEN = frozenset(("argmax", "argmin", "topk", "argsort", "sort", "max", "min"))
_DISTANCES = re.compile(r"dist|pairwise|simil|cosine|^matmul$|^mm$")
_TRANSPOSES = frozenset(("t", "transpose", "mT", "T", "swapaxes"))


def evaluates_by_neighbors(evidence: Evidence) -> bool:
    """Whether embeddings are evaluated by their nearest neighbors among the validation samples, so that validation may
    have other classes than training, or number them differently."""
    source = evidence.setup.source
    return source is not None and not predicts_targets(evidence) and any(neighbor_searches(source))


def neighbor_searches(source: ScriptSource) -> Iterator[tuple[Function, ast.expr]]:
    """Score matrices of a set of samples with itself, by which the labels of nearest neighbors are compared; each with
    its function."""
    for function in (node for node in source.nodes() if isinstance(node, Function)):
        for product, sides in _products(function):
            same = sides[0] == sides[1] or _given_twice(source, function, sides)
            if same and _decides(function, product, sides):
                yield function, product


def _products(function: Function) -> Iterator[tuple[ast.expr, tuple[str, str]]]:
    """Products and distances of two sets of samples, with the source text of both sets."""
    for node in ast.walk(function):
        if is_operation(node, ast.MatMult):
            sides = [node.left, node.right]
        elif isinstance(node, ast.Call) and _DISTANCES.search(called(node)):
            owner = receiver_of(node)
            sides = [*([owner] if owner is not None and called(node) in ("matmul", "mm") else []), *node.args][-2:]
        else:
            continue
        texts = [ast.unparse(_untransposed(side)) for side in sides]
        if len(texts) == 2:
            yield node, (texts[0], texts[1])


def _untransposed(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Attribute) and node.attr in _TRANSPOSES:
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TRANSPOSES:
        return node.func.value
    return node


def _decides(function: Function, product: ast.expr, sides: tuple[str, str]) -> bool:
    """Whether the function looks up and compares the labels of the nearest neighbors: `labels[nearest] == labels`. A
    loss that selects pairs looks up the embeddings instead."""
    scores = names_derived_from(function, lambda node: node is product)
    chosen = [
        node for node in nodes_in(function, ast.Call) if called(node) in _CHOSEN and _mentions(node, scores, product)
    ]
    numbers = names_derived_from(function, lambda node: node in chosen)
    looked_up = any(
        ast.unparse(node.value) not in {*sides, *scores, *numbers}
        and (_mentions(node.slice, numbers) or any(part in chosen for part in ast.walk(node.slice)))
        for node in nodes_in(function, ast.Subscript)
    )
    compared = any(
        (isinstance(node, ast.Compare) and any(isinstance(sign, ast.Eq) for sign in node.ops)) or called(node) == "eq"
        for node in ast.walk(function)
    )
    return looked_up and compared and not any(called(node) == "backward" for node in ast.walk(function))


def names_derived_from(function: Function, is_start: Callable[[ast.AST], bool]) -> set[str]:
    """Variables of the function that are computed from the expressions for which `is_start` holds."""
    names = set[str]()
    while True:
        found = {
            name
            for node in nodes_in(function, ast.Assign)
            if any(is_start(part) or (isinstance(part, ast.Name) and part.id in names) for part in ast.walk(node.value))
            for target in node.targets
            for name in names_in(target)
        }
        if found <= names:
            return names
        names |= found


def _mentions(node: ast.AST, names: set[str], product: ast.AST | None = None) -> bool:
    return any(part is product or (isinstance(part, ast.Name) and part.id in names) for part in ast.walk(node))


def _given_twice(source: ScriptSource, function: Function, sides: tuple[str, str]) -> bool:
    """Whether a call passes the same expression for both arguments that a function compares."""
    for site in source.calls_of(function):
        given = {name: ast.unparse(value) for name, value in source.arguments(function, site.node)}
        if sides[0] in given and given[sides[0]] == given.get(sides[1]):
            return True
    return False
