"""Evaluations that return within the loop over batches, so that only the first batch counts."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.checks.eval.counts.findings import wrong_count
from striate.doctor.checks.eval.evaluation_loops import added_in, evaluation_loops, size_of
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, names_in
from striate.records import Finding
from striate.wording import several


def returned_early(source: ScriptSource) -> Iterator[Finding]:
    """A loop over several batches without training that ends by returning what it adds up."""
    for loop, loader, _ in evaluation_loops(source):
        last, size = loop.body[-1], size_of(loader)
        returns = (
            isinstance(last, ast.Return) and last.value is not None and names_in(last.value) & added_in(loop).keys()
        )
        if not returns or size is None or size[1] < 2 or any(called(part) == "backward" for part in ast.walk(loop)):
            continue
        yield wrong_count(
            f"line {last.lineno}",
            f"`{ast.unparse(last)}` is part of the loop over {several(size[1], 'batch', 'batches')}, so it returns "
            "after the first",
            "The metric is that of the first batch, a few samples, and changes by chance.",
            f"indent `{ast.unparse(last)}` less, so that it follows the loop",
            "a sum over batches that is returned in the loop which adds it up",
        )
