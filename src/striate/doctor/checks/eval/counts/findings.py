"""How a wrong count is told."""

from __future__ import annotations

import ast

from striate.records import Finding

OTHER_NUMBER = "a count over a loader's samples, divided by a number other than theirs"
COUNT_SAMPLES = "count the samples as well, `total += len(targets)`, and divide by `total`"


def wrong_count(where: str, measured: str, why: str, remedy: str, limit: str) -> Finding:
    """What every rule of `eval.wrong-count` gives, an error."""
    return Finding(
        code="eval.wrong-count",
        severity="error",
        where=where,
        measured=measured,
        threshold=limit,
        why=why,
        remedy=remedy,
    )


def no_share(node: ast.AST, measured: str, remedy: str = COUNT_SAMPLES, limit: str = OTHER_NUMBER) -> Finding:
    """Of something divided in the script, that is printed as a share."""
    where = f"line {getattr(node, 'lineno', 0)}"
    return wrong_count(where, measured, "The number printed as an accuracy is not the accuracy.", remedy, limit)
