"""`eval.batch-means` of metrics that differ from the mean over batches: rankings of samples, and ratios of sums."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torch.utils.data import DataLoader

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.evaluation_loops import added_in, after_loop, averages, evaluation_loops
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import batches_of
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation, last_name, names_in, nodes_in, receiver_of
from striate.records import Finding

_RANKED = re.compile(
    r"(^|_)(auc|auroc|roc|average_precision|ap|map|f1|f1_scores?|kappa|mcc|matthews|spearmanr?|pearsonr?|r2|"
    r"(precision|recall|jaccard|balanced_accuracy)_score)(_|$)"
)
_PARTED = ("split", "chunk", "batched")
_MEANS = ("mean", "nanmean", "fmean", "average", "sum")


def _run(evidence: Evidence) -> Iterator[Finding]:
    for node in (*_of_parts(evidence), *_of_batches(evidence)):
        text = ast.unparse(node)
        yield RANKED_BY_BATCH.finding(
            severity="warning",
            where=f"line {node.lineno}",
            measured=f"`{text}` is computed for each batch by itself, and the results are averaged",
            why="It compares samples with each other, or divides by a number that they share: for a few samples at a "
            "time the result differs, and is often too high.",
            remedy=f"collect the outputs and targets of all batches (`torch.cat`), and call `{called(node)}` once",
        )
        return


def _of_batches(evidence: Evidence) -> Iterator[ast.Call]:
    """Calls in a loop over an evaluation loader whose results are averaged over batches."""
    source = evidence.source
    for loop, loader, _ in evaluation_loops(source):
        if loader is evidence.setup.train or (batches_of(loader) or 0) < 2:
            continue
        for name, (kind, value) in added_in(loop).items():
            found = next(_ranked_in(source, loop, value), None)
            if found is not None and any(averages(node, name, kind) for node in after_loop(source, loop, name)):
                yield found
        for node in nodes_in(loop, ast.Call):  # a meter averages
            if called(node) == "update" and node.args:
                yield from _ranked_in(source, loop, node.args[0])


def _ranked_in(source: ScriptSource, loop: ast.For, value: ast.expr) -> Iterator[ast.Call]:
    """The calls of ranking metrics that made a value in a loop: in the expression, in an assignment to its names, or in
    a function of the script's that returns it."""
    if any(is_operation(part, ast.Mult) for part in ast.walk(value)):
        return
    names = names_in(value)
    assigned = [
        node.value
        for node in nodes_in(loop, ast.Assign)
        if any(isinstance(t, ast.Name) and t.id in names for t in node.targets)
    ]
    for part in nodes_in((value, *assigned)):
        if isinstance(part, ast.Call) and (_RANKED.search(called(part)) or _returns_ranked(source, part)):
            yield part


def _returns_ranked(source: ScriptSource, call: ast.Call) -> bool:
    return any(
        isinstance(part.value, ast.Call) and _RANKED.search(called(part.value))
        for part in nodes_in(source.functions_of(call), ast.Return)
    )


def _of_parts(evidence: Evidence) -> Iterator[ast.Call]:
    """Calls for parts of the outputs, whose results are averaged:
    `[auc(s, t) for s, t in zip(scores.split(64), targets.split(64))]`, `[auc(y, model(x)) for x, y in val_loader]`."""
    source = evidence.source
    for node in source.nodes():
        if not isinstance(node, ast.ListComp | ast.GeneratorExp):
            continue
        parts = list(ast.walk(node.generators[0].iter))
        loader = source.value(node.generators[0].iter)
        parted = any(called(part) in _PARTED for part in parts) or _is_zip_of_batches(source, parts)
        parted |= (
            isinstance(loader, DataLoader) and loader is not evidence.setup.train and (batches_of(loader) or 0) > 1
        )
        ranked = [p for p in nodes_in(node.elt, ast.Call) if _RANKED.search(called(p))]
        if parted and ranked and _is_averaged(source, node):
            yield ranked[0]


def _is_zip_of_batches(source: ScriptSource, parts: list[ast.AST]) -> bool:
    """Whether a `zip` runs over lists to which the evaluation appends values of each batch."""
    zipped = next((part for part in parts if isinstance(part, ast.Call) and called(part) == "zip"), None)
    names = {last_name(part) for part in zipped.args} if zipped is not None else set()
    added = {
        last_name(owner)
        for site in source.calls("append")
        if (owner := receiver_of(site.node)) is not None
        and any(isinstance(part, ast.Name) for part in nodes_in(site.node.args))
    }
    return len(names) > 1 and "" not in names and names <= added


def _is_averaged(source: ScriptSource, made: ast.expr) -> bool:
    statement = source.parent(made)
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        name, scope = statement.targets[0].id, source.scope_of(made)
        return any(called(node) in _MEANS and name in names_in(node) for node in nodes_in(scope, ast.Call))
    return any(called(part) in _MEANS for part in source.enclosing(made, ast.Call))


RANKED_BY_BATCH = Check(
    codes=("eval.batch-means",),
    threshold="an area under a curve, an average precision, an F1, a correlation or R² that is averaged over batches "
    "or other parts",
    run=_run,
    of_source=True,
)
