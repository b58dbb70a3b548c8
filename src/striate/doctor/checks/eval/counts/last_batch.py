"""Accuracies that each batch of an evaluation overwrites, so that only the last batch counts."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from striate.doctor.checks.eval.counts.findings import wrong_count
from striate.doctor.checks.eval.evaluation_loops import after_loop, evaluation_loops, size_of
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called
from striate.records import Finding
from striate.wording import several


def last_batch_alone(source: ScriptSource) -> Iterator[Finding]:
    """A loop over several batches without training that compares predictions with targets, and stores the result in a
    variable that is read only after the loop."""
    for loop, loader, _ in evaluation_loops(source):
        size = size_of(loader)
        ends = any(isinstance(part, ast.Break) or called(part) == "backward" for part in ast.walk(loop))
        if size is None or size[1] < 2 or ends or loop.orelse:
            continue
        for node in (part for part in ast.walk(loop) if isinstance(part, ast.Assign) and _compares(part.value)):
            (target,) = node.targets if len(node.targets) == 1 else (None,)
            if not isinstance(target, ast.Name) or _is_read(ast.walk(loop), target.id):
                continue
            if _is_read(after_loop(source, loop, target.id), target.id):
                yield wrong_count(
                    f"line {node.lineno}",
                    f"`{ast.unparse(node)}` is assigned anew for each of {several(size[1], 'batch', 'batches')}, and "
                    "read after the loop, where it is that of the last batch",
                    "The metric is that of a few samples, and changes by chance.",
                    "add up over batches, `correct += (predicted == targets).sum().item()` and `total += "
                    "len(targets)`, and divide after the loop: `correct / total`",
                    "a comparison of predictions with targets that each batch overwrites",
                )
                return


def _compares(value: ast.expr) -> bool:
    """Whether an expression counts or averages equal values: `(predicted == y).float().mean().item()`."""
    nodes = list(ast.walk(value))
    equal = any(isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq) for node in nodes)
    return any(called(node) in ("eq", "accuracy", "accuracy_score") for node in nodes) or (
        equal and any(called(node) in ("sum", "mean", "count_nonzero") for node in nodes)
    )


def _is_read(nodes: Iterable[ast.AST], name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load) for node in nodes)
