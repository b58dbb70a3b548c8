"""`eval.wrong-count` in a search for nearest neighbors that does not exclude the sample itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.neighbor_search import names_derived_from, neighbor_searches
from striate.doctor.setup.script_source import Function
from striate.doctor.setup.syntax import nodes_in
from striate.records import Finding

_LEFT_OUT = re.compile(r"diag|eye\(|inf\b|mask|\b1e\d|\[:, 1|\[1:|\[\.\.\., 1|topk\([^()]*\+ 1|tri[ul]")
"""What keeps a sample from its own neighbors: the diagonal is covered, or the first neighbor is not counted."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    for function, product in neighbor_searches(evidence.source):
        if not _LEFT_OUT.search(ast.unparse(function)) and not _is_set_in_place(function, product):
            yield _finding(product)
            return


def _is_set_in_place(function: Function, product: ast.expr) -> bool:
    """Whether the function assigns to some of the scores."""
    scores = names_derived_from(function, lambda node: node is product)
    targets = [target for node in nodes_in(function, ast.Assign) for target in node.targets]
    return any(isinstance(target, ast.Subscript) and ast.unparse(target.value) in scores for target in targets)


def _finding(product: ast.expr) -> Finding:
    text = ast.unparse(product)
    return SELF_AS_NEIGHBOR.finding(
        severity="error",
        where=f"line {product.lineno}",
        measured=f"`{text}` compares all samples with each other, and the nearest of each is looked up in it: that "
        "is the sample itself",
        why="Each sample finds itself, with its own label, so the metric is perfect whatever was learned.",
        remedy="Exclude each sample from its own neighbors before they are looked up: "
        '`distances.fill_diagonal_(float("inf"))`, or `similarity.fill_diagonal_(-float("inf"))`.',
    )


SELF_AS_NEIGHBOR = Check(
    codes=("eval.wrong-count",),
    threshold="scores between the samples of one set, whose largest or smallest is looked up among the labels, while "
    "nothing masks the diagonal or skips the first neighbor",
    run=_run,
    of_source=True,
)
