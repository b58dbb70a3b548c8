"""`eval.wrong-count` in a search for neighbors: samples that are compared with all, themselves among them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.answering import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource, called, receiver_of
from striate.records import Finding

_CHOSEN = frozenset(("argmax", "argmin", "topk", "argsort", "sort", "max", "min"))
_DISTANCES = re.compile(r"dist|pairwise|simil|cosine|^matmul$|^mm$")
_TURNED = frozenset(("t", "transpose", "mT", "T", "swapaxes"))
_LEFT_OUT = re.compile(r"diag|eye\(|inf\b|mask|\b1e\d|\[:, 1|\[1:|\[\.\.\., 1|topk\([^()]*\+ 1|tri[ul]")
"""What keeps a sample from its own neighbors: the diagonal is covered, or the first neighbor is not counted."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    for function, product in _searched_within(evidence.source):
        if not _LEFT_OUT.search(ast.unparse(function)) and not _is_set_in_place(function, product):
            yield _finding(product)
            return


def compared_within(evidence: Evidence) -> bool:
    """Whether embeddings are evaluated by their nearest among the same samples, so that labels need not be known to
    training, nor have its numbers."""
    source = evidence.setup.source
    return source is not None and not predicts_targets(evidence) and any(_searched_within(source))


def _searched_within(source: ScriptSource) -> Iterator[tuple[Function, ast.expr]]:
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
    scores = _made_of(function, lambda node: node is product)
    chosen = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and called(node) in _CHOSEN and _mentions(node, scores, product)
    ]
    numbers = _made_of(function, lambda node: node in chosen)
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


def _is_set_in_place(function: Function, product: ast.expr) -> bool:
    """Whether some of the scores are given other values."""
    scores = _made_of(function, lambda node: node is product)
    targets = [target for node in ast.walk(function) if isinstance(node, ast.Assign) for target in node.targets]
    return any(isinstance(target, ast.Subscript) and ast.unparse(target.value) in scores for target in targets)


def _made_of(function: Function, is_start: Callable[[ast.AST], bool]) -> set[str]:
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


def _finding(product: ast.expr) -> Finding:
    text = ast.unparse(product)
    return FINDS_ITSELF.finding(
        severity="error",
        where=f"line {product.lineno}",
        measured=f"`{text}` compares all samples with all, and the nearest of each is looked up in it: that is itself",
        why="Each sample finds itself, with its own label, so the figure is perfect whatever was learned.",
        remedy="Leave each sample out of its own neighbors before they are looked up: "
        '`distances.fill_diagonal_(float("inf"))`, or `similarity.fill_diagonal_(-float("inf"))`.',
    )


FINDS_ITSELF = Check(
    codes=("eval.wrong-count",),
    question="Is each sample left out where its nearest neighbor is looked up?",
    threshold="scores of a set of samples with itself, whose largest or smallest are looked up among labels, and "
    "nothing that covers the diagonal or passes over the first",
    run=_run,
    of_source=True,
)
