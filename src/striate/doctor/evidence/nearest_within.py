"""Evaluations that look up the nearest of each sample among the same samples, as code tells."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import called, receiver_of

_CHOSEN = frozenset(("argmax", "argmin", "topk", "argsort", "sort", "max", "min"))
_DISTANCES = re.compile(r"dist|pairwise|simil|cosine|^matmul$|^mm$")
_TURNED = frozenset(("t", "transpose", "mT", "T", "swapaxes"))


def compared_within(evidence: Evidence) -> bool:
    """Whether embeddings are evaluated by their nearest among the same samples, so that labels need not be known to
    training, nor have its numbers."""
    source = evidence.setup.source
    return source is not None and not predicts_targets(evidence) and any(searched_within(source))


def searched_within(source: ScriptSource) -> Iterator[tuple[Function, ast.expr]]:
    """Scores of a set of samples with itself by which the labels of the nearest ones are looked up and compared."""
    for tree in source.trees.values():
        for function in (node for node in ast.walk(tree) if isinstance(node, Function)):
            for product, sides in _products(function):
                same = sides[0] == sides[1] or _given_twice(source, function, sides)
                if same and _decides(function, product, sides):
                    yield function, product


def _products(function: Function) -> Iterator[tuple[ast.expr, tuple[str, str]]]:
    """Scores or distances of all samples with all, with the texts of both sides."""
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            sides = [node.left, node.right]
        elif isinstance(node, ast.Call) and _DISTANCES.search(called(node)):
            owner = receiver_of(node)
            sides = [*([owner] if owner is not None and called(node) in ("matmul", "mm") else []), *node.args][-2:]
        else:
            continue
        texts = [ast.unparse(_not_turned(side)) for side in sides]
        if len(texts) == 2:
            yield node, (texts[0], texts[1])


def _not_turned(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Attribute) and node.attr in _TURNED:
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TURNED:
        return node.func.value
    return node


def _decides(function: Function, product: ast.expr, sides: tuple[str, str]) -> bool:
    """Whether the nearest by these scores are looked up among labels, which are compared: `labels[nearest] == labels`.
    Pairs that a loss picks are looked up among the embeddings themselves, or not at all."""
    scores = made_of(function, lambda node: node is product)
    chosen = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and called(node) in _CHOSEN and _mentions(node, scores, product)
    ]
    numbers = made_of(function, lambda node: node in chosen)
    looked_up = any(
        isinstance(node, ast.Subscript)
        and ast.unparse(node.value) not in {*sides, *scores, *numbers}
        and (_mentions(node.slice, numbers) or any(part in chosen for part in ast.walk(node.slice)))
        for node in ast.walk(function)
    )
    compared = any(
        (isinstance(node, ast.Compare) and any(isinstance(sign, ast.Eq) for sign in node.ops)) or called(node) == "eq"
        for node in ast.walk(function)
    )
    return looked_up and compared and not any(called(node) == "backward" for node in ast.walk(function))


def made_of(function: Function, is_start: Callable[[ast.AST], bool]) -> set[str]:
    """Names of the function that are given what is made of some of its expressions."""
    names = set[str]()
    while True:
        found = {
            part.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(
                is_start(part) or (isinstance(part, ast.Name) and part.id in names) for part in ast.walk(node.value)
            )
            for target in node.targets
            for part in ast.walk(target)
            if isinstance(part, ast.Name)
        }
        if found <= names:
            return names
        names |= found


def _mentions(node: ast.AST, names: set[str], product: ast.AST | None = None) -> bool:
    return any(part is product or (isinstance(part, ast.Name) and part.id in names) for part in ast.walk(node))


def _given_twice(source: ScriptSource, function: Function, sides: tuple[str, str]) -> bool:
    """Whether a function that compares two of its arguments is given the same for both."""
    for site in source.calls_of(function):
        given = {name: ast.unparse(value) for name, value in source.arguments(function, site.node)}
        if sides[0] in given and given[sides[0]] == given.get(sides[1]):
            return True
    return False
