"""Findings of wrong counts."""

from __future__ import annotations

import ast

from striate.records import Finding

OTHER_NUMBER = "a count over a loader's samples, divided by a number other than theirs"
COUNT_SAMPLES = "count the samples as well, `total += len(targets)`, and divide by `total`"


def wrong_count(where: str, measured: str, why: str, remedy: str, limit: str) -> Finding:
    """An error of `eval.wrong-count`."""
    return Finding("eval.wrong-count", "error", where, measured, limit, why, remedy)


def wrong_share(node: ast.AST, measured: str, remedy: str = COUNT_SAMPLES, limit: str = OTHER_NUMBER) -> Finding:
    """The finding for a quotient in the script that is printed as an accuracy."""
    where = f"line {getattr(node, 'lineno', 0)}"
    return wrong_count(where, measured, "The number printed as an accuracy is not the accuracy.", remedy, limit)
