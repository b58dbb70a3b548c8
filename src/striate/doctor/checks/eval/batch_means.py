"""`eval.batch-means`: does each sample count the same in a metric?"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.evaluation_loops import (
    added_in,
    after_loop,
    averages,
    batch_size_of,
    evaluation_loops,
    size_of,
)
from striate.doctor.checks.eval.script_evaluation import words_of
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import argument, called, is_operation, names_in, nodes_in, receiver_of, stored_in
from striate.records import Finding
from striate.wording import percent, several

EXCESS = 0.05
"""Excess weight of the last batch: with less, the mean of batch means is off by a few thousandths at most."""
_BELOW = 0.02


def _batch_means(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for loop, loader, _ in evaluation_loops(source):
        counted, size = size_of(loader), batch_size_of(loader)
        if loader is evidence.setup.train or size is None or counted is None or loader.drop_last:
            continue
        samples, batches = counted
        short = samples - (batches - 1) * size
        excess = 1 / batches - short / samples
        if batches < 2 or excess < EXCESS:
            continue
        for node, what in (*_by_meters(source, loop), *_by_sums(source, loop)):
            yield _of_means(node, batches, short, samples, what)
            return
    yield from chain(_of_roots(evidence), _of_best_batches(evidence))


def _by_sums(source: ScriptSource, loop: ast.For) -> Iterator[tuple[ast.AST, str]]:
    """Where a loop adds up the means of batches, and their sum is divided by the number of batches."""
    for name, (kind, value) in added_in(loop).items():
        made = source.last_value(value, value.id) if isinstance(value, ast.Name) else None
        means = _is_mean(value if made is None else made) or _is_share(source, loop, value if made is None else made)
        ends = after_loop(source, loop, name) if means else ()
        yield from ((node, "a mean of batch means") for node in ends if averages(node, name, kind))


def _of_means(node: ast.AST, batches: int, short: int, samples: int, what: str) -> Finding:
    return BATCH_MEANS.finding(
        severity="warning",
        where=f"line {getattr(node, 'lineno', 0)}",
        measured=f"`{ast.unparse(node)}` is {what} over {several(batches, 'batch', 'batches')}: the "
        f"{several(short, 'sample')} of the last batch have a weight of {percent(1 / batches, 0)}, but are "
        f"{percent(short / samples)} of {samples}",
        limit="a mean of batch means in which the weight of the last batch exceeds its share of the samples by "
        f"{percent(EXCESS, 0)} of all",
        why="The samples of a short last batch count more than the others: the metric changes with the batch size "
        "and with the order of the samples.",
        remedy="add up over samples: `correct += (predicted == targets).sum().item()` and `total += len(targets)` in "
        "the loop, `correct / total` after it; for a meter, `meter.update(value, len(targets))`",
    )


def _by_meters(source: ScriptSource, loop: ast.For) -> Iterator[tuple[ast.AST, str]]:
    """Where a loop updates a meter of the script's that takes a number of samples with each value, but gets none, or
    gives all values the same weight. Meters of time are left out: they measure batches."""
    meters = [
        (owner, part)
        for owner in source.nodes(ast.ClassDef)
        for part in owner.body
        if isinstance(part, ast.FunctionDef) and part.name == "update" and len(part.args.args) == 3
    ]
    one_each = any(
        part.args.defaults and isinstance(part.args.defaults[0], ast.Constant) and part.args.defaults[0].value == 1
        for _, part in meters
    )
    unweighted = bool(meters) and all(_ignores_counts(source.names.get(owner.name)) for owner, _ in meters)
    for node in nodes_in(loop, ast.Call):
        if called(node) != "update" or "time" in ast.unparse(node).lower():
            continue
        count = len(node.args) + len(node.keywords)
        if one_each and count == 1 and node.args:
            yield node, "a meter that gets no number of samples"
        elif unweighted and count == 2:
            yield node, "a meter that weights all values alike, whatever number of samples it gets,"


def _ignores_counts(kind: Any) -> bool:
    """Whether a meter's average of 1 for three samples and 0 for one sample is one half."""
    for args in ((), ("",), ("", "")):
        with suppress(Exception):  # of the user's class, which may want other arguments
            meter = kind(*args)
            meter.update(1.0, 3)
            meter.update(0.0, 1)
            average = next(getattr(meter, name) for name in _AVERAGES if hasattr(meter, name))
            return abs(float(average() if callable(average) else average) - 0.5) < _SAME
    return False


_AVERAGES = ("avg", "average", "mean", "global_avg", "compute")
_SAME = 1e-6


def _of_roots(evidence: Evidence) -> Iterator[Finding]:
    """Averaged roots of the batches' mean squared errors, where the average is below the root of the mean error."""
    node = next(_roots(evidence), None)
    if node is None:
        return
    found, sizes = evidence.after_val, evidence.val.sizes
    if found.targets is None or found.outputs.numel() != found.targets.numel() or len(found.outputs) != sum(sizes):
        return
    squares = (found.outputs - found.targets.reshape(found.outputs.shape)).double().square().flatten(1).mean(1)
    of_batches = [float(part.mean()) ** 0.5 for part in squares.split(list(sizes))]
    reported, true = sum(map(operator.mul, of_batches, sizes)) / sum(sizes), float(squares.mean()) ** 0.5
    if reported > (1 - _BELOW) * true:
        return
    yield BATCH_MEANS.finding(
        severity="warning",
        where=f"line {getattr(node, 'lineno', 0)}",
        measured=f"`{ast.unparse(node)}` takes the root within each of {several(len(sizes), 'batch', 'batches')}, "
        f"and the roots are averaged: this gives {reported:.4g} in the trial, but the root of the mean of all squares "
        f"is {true:.4g}",
        limit=f"a mean of the roots of batches that is {percent(_BELOW, 0)} below the root of all",
        why="A mean of roots is less than the root of the mean, the more so the more batches differ: it changes with "
        "the batch size and with the order of the data.",
        remedy="average the squares, and take the root at the end: `(total_squares / total).sqrt()`",
    )


def _of_best_batches(evidence: Evidence) -> Iterator[Finding]:
    """Metrics that a library logs as the largest or smallest value of a batch although, by their names, they are means
    over samples. Names such as `max_error` are left out, as are metric objects, which reduce themselves."""
    source = evidence.source
    for site in source.calls("log", "log_dict") if source.library is not None else ():
        function, as_dict = source.function_of(site.node), called(site.node) == "log_dict"
        reduction = argument(site.node, 5 if as_dict else 6, "reduce_fx")
        validates = function is not None and function.name in ("validation_step", "test_step")
        if reduction is None or not validates or _reduces_to(source, reduction) not in _EXTREMES:
            continue
        if not as_dict and isinstance(argument(site.node, 1, "value"), ast.Attribute):
            continue
        logged = argument(site.node, 0, "dictionary" if as_dict else "name")
        names = logged.keys if isinstance(logged, ast.Dict) else [logged]
        texts = [node.value for node in names if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        for name in texts:
            words = words_of(name)
            if words & _MEANS and not words & _EXTREME_WORDS:
                yield BATCH_MEANS.finding(
                    severity="warning",
                    where=site.where,
                    measured=f"`{name}` is logged with `reduce_fx={ast.unparse(reduction)}`: of all batches only the "
                    f"one with the {_EXTREMES[_reduces_to(source, reduction)]} value counts",
                    limit="an accuracy, another share or a loss whose values for batches are reduced to the largest or "
                    "the smallest",
                    why="It is the metric of a few samples, and the more batches there are, the farther it is from "
                    "that of all: an accuracy of the best batch is soon 1.",
                    remedy='leave out `reduce_fx`, whose default is the mean: `self.log("val_acc", acc, '
                    "batch_size=len(y))`",
                )
                return


_EXTREMES = {"max": "largest", "amax": "largest", "min": "smallest", "amin": "smallest"}
_MEANS = frozenset(("acc", "accuracy", "f1", "precision", "recall", "iou", "miou", "dice", "auc", "loss", "mae", "mse"))
_EXTREME_WORDS = frozenset(
    ("best", "worst", "max", "maximum", "min", "minimum", "peak", "top", "lowest", "highest", "largest")
)


def _reduces_to(source: ScriptSource, reduction: ast.expr) -> str:
    """The name of a reduction that is given as text or as a function."""
    value = source.value(reduction)
    return value if isinstance(value, str) else str(getattr(value, "__name__", ""))


def _roots(evidence: Evidence) -> Iterator[ast.expr]:
    """Roots of a batch's mean that a loop over validation data adds up and averages, or that a library logs."""
    source = evidence.source
    for loop, loader, _ in evaluation_loops(source):
        for name, (kind, value) in added_in(loop).items() if loader is not evidence.setup.train else ():
            averaged = any(averages(node, name, kind) for node in after_loop(source, loop, name))
            if averaged and _is_root(source, value, value):
                yield value
    for site in source.calls("log") if source.library is not None else ():
        function, logged = source.function_of(site.node), argument(site.node, 1, "value")
        trains = function is None or function.name == "training_step"
        if logged is not None and not trains and _is_root(source, site.node, logged):
            yield logged


def _is_root(source: ScriptSource, node: ast.AST, value: ast.expr) -> bool:
    """Whether an expression is the root of a mean over a batch, directly or by a variable assigned before."""
    while isinstance(value, ast.Call) and called(value) in ("item", "float", "cpu", "detach"):
        value = receiver_of(value) or value.args[0]
    if isinstance(value, ast.Name):
        value = source.last_value(node, value.id) or value
    by_power = is_operation(value, ast.Pow)
    if by_power and isinstance(value, ast.BinOp):
        squared: ast.expr | None = value.left if source.is_number(value.right, 0.5) else None
    elif isinstance(value, ast.Call) and called(value) == "sqrt":
        squared = value.args[0] if value.args else receiver_of(value)
    else:
        return False
    if isinstance(squared, ast.Name):
        squared = source.last_value(node, squared.id)
    inside = list(nodes_in(squared, ast.Call)) if squared is not None else []
    means = [part for part in inside if called(part) == "mean"]
    over_all = any(not part.keywords and not any(map(_is_axis, part.args)) for part in means)
    return (
        over_all
        or any(isinstance(source.value(part.func), nn.MSELoss) for part in inside)
        or any(called(part) in ("mse_loss", "mean_squared_error") for part in inside)
    )


def _is_axis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant | ast.UnaryOp | ast.Tuple | ast.List)


def _is_mean(value: ast.expr) -> bool:
    """Whether an expression is the mean over a batch. A mean times the batch size is a sum; a mean along another axis,
    as in `(predicted - y).abs().mean(1) / size`, is one value for each sample."""
    inside = list(ast.walk(value))
    if any(is_operation(node, ast.Mult) for node in inside):
        return False
    return any(called(node) in ("mean", "accuracy", "accuracy_score") and not _of_each(node) for node in inside)


def _is_share(source: ScriptSource, loop: ast.For, value: ast.expr) -> bool:
    """Whether an expression is a sum over a batch divided by its size: `correct.sum() / len(targets)`."""
    while isinstance(value, ast.Call) and called(value) in ("item", "float"):
        value = receiver_of(value) or value.args[0]
    if not is_operation(value, ast.Div) or source.loops_of(value)[:1] != [loop]:
        return False  # in an inner loop it may be a share of one sample
    sizes = [part for part in ast.walk(value.right) if called(part) in ("len", "size", "numel")]
    sizes += [part for part in nodes_in(value.right, ast.Attribute) if part.attr == "shape"]
    at_hand = stored_in(loop)
    above = source.last_value(value, value.left.id) if isinstance(value.left, ast.Name) else value.left
    sums = [part for part in ast.walk(above or value.left) if called(part) == "sum" and not _of_each(part)]
    return bool(sums and sizes) and bool(names_in(value.right) & at_hand)


def _of_each(node: ast.AST) -> bool:
    """Whether a mean is along an axis other than that of the samples."""
    axis = argument(node, 0, "dim") if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
    return isinstance(axis, ast.Constant | ast.UnaryOp) and ast.unparse(axis) != "0"


BATCH_MEANS = Check(
    codes=("eval.batch-means",),
    run=_batch_means,
    of_source=True,
)
