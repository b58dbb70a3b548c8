"""Sums over a loader's batches that are divided by a number other than that of its samples."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, SubsetRandomSampler

from striate.doctor.checks.eval.counts.findings import wrong_count, wrong_share
from striate.doctor.checks.eval.evaluation_loops import added_in, after_loop, batch_size_of, evaluation_loops, size_of
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation, last_name, names_in, nodes_in, receiver_of, stored_in
from striate.records import Finding
from striate.wording import several

_BATCHES = re.compile("batch|loader")
_EACH_ONCE = (SequentialSampler, RandomSampler, SubsetRandomSampler)
"""Samplers that give each of their samples once."""
_SIZE = re.compile(r"len\((\w+)\)|(\w+)\.size\((?:dim=)?0\)|(\w+)\.shape\[0\]")
_LOSSES = (
    *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy"),
    "binary_cross_entropy_with_logits",
)


def mean_losses_divided(source: ScriptSource) -> Iterator[Finding]:
    """A sum of the batches' mean losses that is divided by the number of samples, known or counted in the loop."""
    for loop, _, known, samples, batches in _counted_loops(source):
        added = added_in(loop)
        counts = {name for name, (kind, value) in added.items() if kind == "sum" and _is_current_size(value, loop)}
        for name, (kind, value) in added.items():
            if kind != "sum" or not _is_mean_loss(source, value) or samples <= 4 * batches:
                continue
            for node, above, below in filter(None, map(_quotient, after_loop(source, loop, name))):
                counted = isinstance(below, ast.Name) and below.id in counts
                if name in names_in(above) and (counted or source.is_number(below, samples, **known)):
                    found = _of_mean_losses(node, value, batches, samples)
                    yield replace(found, severity="warning") if loop is source.training_loop else found


def _of_mean_losses(node: ast.AST, value: ast.expr, batches: int, samples: int) -> Finding:
    return wrong_count(
        f"line {getattr(node, 'lineno', 0)}",
        f"`{ast.unparse(node)}` divides a sum of {several(batches, 'mean')}, `{ast.unparse(value)}` of each batch, "
        f"by {several(samples, 'sample')}: the result is {samples / batches:.0f} times too small",
        "The number printed as the mean is not the mean, and training and validation cannot be compared by it.",
        "add up sums, with `reduction='sum'` or the mean times `len(targets)`, and divide by the number of samples",
        "a sum of the mean losses of batches, divided by the number of samples",
    )


def count_divided(source: ScriptSource) -> Iterator[Finding]:
    """A count over a loader's samples that is divided by a number other than theirs."""
    for loop, loader, known, samples, batches in _counted_loops(source):
        rounded_up = batches * (batch_size_of(loader) or 0)
        seen = rounded_up if loader.drop_last else samples
        added = {name: value for name, (kind, value) in added_in(loop).items() if kind == "sum"}
        assigned = stored_in(loop)
        full = {
            name
            for name, value in added.items()
            if not names_in(value) & assigned and _is_batch_size(source, value, loader, known)
        }
        for name in (name for name, value in added.items() if _counts(value, loop)):
            for node, above, below in filter(None, map(_quotient, after_loop(source, loop, name))):
                if isinstance(below, ast.Name) and below.id not in added:  # `count = len(loader)`
                    below = source.last_value(node, below.id) or below
                number, what = source.value(below, **known), "the size of other data"
                by_full = isinstance(below, ast.Name) and below.id in full
                if isinstance(below, ast.Name) and below.id in _ones(loop):
                    number = batches
                elif by_full:
                    number = rounded_up
                elif isinstance(below, ast.Name | ast.Constant):
                    continue
                if name not in names_in(above) or type(number) is not int or number in (0, 1, seen):
                    continue
                if number % seen == 0 and _of_positions(below):
                    continue
                if number == samples:
                    what = f"of which `drop_last` leaves out {samples - seen:,}"
                elif isinstance(loader.sampler, SubsetRandomSampler) and number > seen:
                    what = "more than its sampler gives"
                elif by_full:
                    what = f"{batch_size_of(loader)} for each batch, of which the last is smaller"
                elif number == batches:
                    what = "the number of batches"
                elif number == rounded_up:
                    what = "the number of batches times their size, of which the last is smaller"
                measured = f"`{ast.unparse(node)}` divides a count over {several(seen, 'sample')} by {number}, {what}"
                yield wrong_share(node, measured)


def _of_positions(below: ast.expr) -> bool:
    """Whether a number counts the positions or labels of all samples: `len(data) * height * width`, `masks.numel()`."""
    return is_operation(below, ast.Mult) or called(below) in ("numel", "nelement") or last_name(below) == "size"


def by_whole_batches(source: ScriptSource) -> Iterator[Finding]:
    """Values that a loop over a loader collects, divided by the number of batches times their size, although the last
    batch is smaller."""
    for loop, loader, known, samples, batches in _counted_loops(source):
        rounded_up = batches * (batch_size_of(loader) or 0)
        if loader.drop_last or rounded_up in (0, samples):
            continue
        added = added_in(loop)
        collected = stored_in(loop)
        for name in sorted(collected):
            parts = ast.walk(added[name][1]) if name in added else ()
            if any(isinstance(n, ast.expr) and _is_batch_size(source, n, loader, known) for n in parts):
                continue  # means times the full size: the quotient is their mean
            for node, above, below in filter(None, map(_quotient, after_loop(source, loop, name))):
                counted = any(called(part) == "len" for part in ast.walk(below))
                if counted and name in _names_of(source, above) and source.is_number(below, rounded_up, **known):
                    yield wrong_share(
                        node,
                        f"`{ast.unparse(node)}` divides a sum over {several(samples, 'sample')} by {rounded_up}, the "
                        "number of batches times their size, of which the last is smaller",
                    )


def divided_by_batches(source: ScriptSource) -> Iterator[Finding]:
    """Right predictions divided by a number of batches: `hits / n` after `for n, (x, y) in enumerate(batches, 1)`, or
    `for i in range(0, len(x), 32): n += 1`."""
    for loop in source.nodes(ast.For):
        counts = _counting_batches(source, loop)
        if not counts or not any(source.runs_network(part) for part in ast.walk(loop)):
            continue
        for name, (kind, value) in added_in(loop).items():
            for node, above, below in filter(None, map(_quotient, after_loop(source, loop, name))):
                inside = [part.id for part in nodes_in(below, ast.Name)]
                divides = name in names_in(above) and len(inside) == 1 and inside[0] in counts
                if kind == "sum" and _counts(value, loop) and divides:
                    yield wrong_share(
                        node,
                        f"`{ast.unparse(node)}` divides a count of right predictions by `{inside[0]}`, which "
                        f"counts the batches of the loop in line {loop.lineno}",
                    )


def _counted_loops(source: ScriptSource) -> Iterator[tuple[ast.For, DataLoader, dict[str, Any], int, int]]:
    """Loops over loaders that yield each sample at most once: the loop, the loader, the variables that are known there,
    and the numbers of samples and batches."""
    for loop, loader, known in evaluation_loops(source):
        counted = size_of(loader)
        if counted is not None and type(loader.sampler) in _EACH_ONCE:
            yield loop, loader, known, *counted


def _names_of(source: ScriptSource, node: ast.expr) -> set[str]:
    """The names of variables in a node; within `[s / n for s in sums]` also `sums`."""
    around = [
        part for part in source.enclosing(node) if isinstance(part, ast.ListComp | ast.GeneratorExp | ast.DictComp)
    ]
    each = [one for part in around for one in part.generators if names_in(one.target) & names_in(node)]
    return names_in(node).union(*(names_in(one.iter) for one in each))


def _counting_batches(source: ScriptSource, loop: ast.For) -> set[str]:
    """The names that count the batches of a loop."""
    args = loop.iter.args if isinstance(loop.iter, ast.Call) else []
    if called(loop.iter) == "range" and len(args) == 3 and not source.is_number(args[2], 1):
        return _ones(loop)
    target = loop.target.elts[0] if isinstance(loop.target, ast.Tuple) else None
    if called(loop.iter) != "enumerate" or not args or not isinstance(target, ast.Name):
        return set()
    known = source.value(args[0])
    batched = (
        batch_size_of(known) != 1 if isinstance(known, DataLoader) else _BATCHES.search(ast.unparse(args[0]).lower())
    )
    return {target.id} if batched else set()


def _ones(loop: ast.For) -> set[str]:
    """The names to which each pass of a loop adds 1."""
    return {
        node.target.id
        for node in loop.body
        if isinstance(node, ast.AugAssign)
        and isinstance(node.op, ast.Add)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
        and node.value.value == 1
    }


def _quotient(node: ast.AST) -> tuple[ast.AST, ast.expr, ast.expr] | None:
    """A node of the form `a / b`, `a / float(b)` or `a /= b`, with its dividend and its divisor; None for others."""
    if is_operation(node, ast.Div):
        above, below = node.left, node.right
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
        above, below = node.target, node.value
    else:
        return None
    converted = isinstance(below, ast.Call) and called(below) in ("float", "int") and len(below.args) == 1
    return node, above, below.args[0] if isinstance(below, ast.Call) and converted else below


def _is_mean_loss(source: ScriptSource, value: ast.expr) -> bool:
    """Whether an expression is a mean over a batch, by a loss of torch or by `mean()`, and not times the batch size."""
    inside, bare = list(ast.walk(value)), value
    if any(is_operation(node, ast.Mult) for node in inside):
        return False
    while isinstance(bare, ast.Call) and called(bare) in ("item", "float", "detach", "cpu"):
        owner = receiver_of(bare)
        bare = owner if owner is not None else bare.args[0] if bare.args else ast.Constant(0)
    if isinstance(bare, ast.Name) and isinstance(made := source.last_value(bare, bare.id), ast.Call):
        return _is_mean_loss(source, made)
    if isinstance(bare, ast.Call) and called(bare) == "mean" and not bare.args and not bare.keywords:
        return receiver_of(bare) is not None
    for node in inside:
        function = source.value(node.func) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and getattr(function, "__module__", "") == "torch.nn.functional":
            keywords = {word.arg for word in node.keywords}
            return called(node) in _LOSSES and not keywords & {"reduction", "size_average", "reduce"}
        if isinstance(function, torch.nn.modules.loss._Loss):
            return function.reduction == "mean"
    return False


def _is_current_size(value: ast.expr, loop: ast.For) -> bool:
    """Whether an expression is the number of samples in the loop's current batch, as `len(y)`."""
    sized = _SIZE.fullmatch(ast.unparse(value))
    return sized is not None and next(filter(None, sized.groups())) in names_in(loop.target)


def _is_batch_size(source: ScriptSource, value: ast.expr, loader: DataLoader, known: dict[str, Any]) -> bool:
    """Whether an expression is the size of a full batch, whatever the size of the current one."""
    size = batch_size_of(loader)
    return size is not None and source.is_number(value, size, **known)


def _counts(value: ast.expr, loop: ast.For) -> bool:
    """Whether an expression counts right predictions: a sum over a comparison, in it or in another line of the loop. A
    quotient does not: it is a share of its batch."""
    if is_operation(value, ast.Div):
        return False
    inside = list(ast.walk(value))
    sums = [node for node in inside if isinstance(node, ast.Call) and called(node) == "sum"]
    names = {_without_all(owner) for node in sums if (owner := receiver_of(node)) is not None}
    for node in nodes_in(loop, ast.Assign):
        if ast.unparse(node.targets[0]) in names:
            inside.extend(ast.walk(node.value))
    return bool(sums) and any(isinstance(node, ast.Compare) or called(node) in ("eq", "equal") for node in inside)


def _without_all(node: ast.expr) -> str:
    """The source of a node without `all` or `any`: `right` for `right.all(dim=1)`."""
    owner = receiver_of(node) if isinstance(node, ast.Call) and called(node) in ("all", "any") else None
    return ast.unparse(node if owner is None else owner)
