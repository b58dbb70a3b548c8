"""`eval.worst-kept`: is the epoch that a script keeps the one with the best value?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding

_LOW = frozenset(("loss", "nll", "error", "err", "mse", "rmse", "mae", "ppl", "perplexity", "wer", "cer", "fid"))
_HIGH = frozenset((
    "acc", "accuracy", "f1", "iou", "miou", "dice", "auc", "auroc", "psnr", "ssim", "top1", "recall", "precision",
    "bleu",
))  # fmt: skip


def _worst_kept(evidence: Evidence) -> Iterator[Finding]:
    for tree in evidence.source.trees.values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.If) or (said := _wrong_way(node)) is None:
                continue
            kind, sign = said
            yield Finding(
                code="eval.worst-kept",
                severity="error",
                where=f"line {node.lineno}",
                measured=f"`{ast.unparse(node.test)}` takes a {kind} for the best yet",
                threshold=WORST_KEPT.threshold,
                why="What is kept, and measured in the end, is the worst epoch, not the best.",
                remedy=f"compare the other way, `{sign}`, and begin with `float('{'inf' if sign == '<' else '-inf'}')`",
            )
            return


def _wrong_way(node: ast.If) -> tuple[str, str] | None:
    """Of `if new > best: best = new` with the name of what should be low, or of `<` with one that should be high, what
    is taken, and the sign that is right."""
    test = node.test
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    one, other = test.left, test.comparators[0]
    greater = isinstance(test.ops[0], ast.Gt | ast.GtE)
    if not greater and not isinstance(test.ops[0], ast.Lt | ast.LtE):
        return None
    if "best" in _words(one):
        one, other, greater = other, one, not greater
    if "best" not in _words(other) or any(isinstance(part, ast.UnaryOp) for part in ast.walk(test)):
        return None
    taken = {
        (ast.unparse(target), ast.unparse(part.value))
        for part in ast.walk(node)
        if isinstance(part, ast.Assign)
        for target in part.targets
    }
    if (ast.unparse(other), ast.unparse(one)) not in taken:
        return None
    words = _words(one) | _words(other)
    low, high = bool(words & _LOW), bool(words & _HIGH)
    if low == high or low != greater:
        return None
    return ("higher loss", "<") if low else ("lower share", ">")


def _words(node: ast.expr) -> set[str]:
    return set(re.findall(r"[a-z]+\d*", ast.unparse(node).lower()))


WORST_KEPT = Check(
    codes=("eval.worst-kept",),
    question="Is the epoch that is kept the best one?",
    threshold="`if new > best: best = new` of a loss or an error, or `<` of an accuracy or another share, by their "
    "names",
    run=_worst_kept,
    of_source=True,
)
