"""Loops of a script over evaluation data: what they add up, and how the sums are used after them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, SubsetRandomSampler

from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation, names_in, receiver_of


def evaluation_loops(source: ScriptSource) -> Iterator[tuple[ast.For, DataLoader, dict[str, Any]]]:
    """Loops over loaders, each with its loader and the variables that are known there: a loop within
    `for phase in ["train", "val"]:` once for each phase."""
    for node in source.nodes(ast.For):
        inner = node.iter
        while isinstance(inner, ast.Call) and inner.args:
            inner = inner.args[0]
        for known in _phases(source, node):
            loader = source.value(inner, **known)
            if loader is None and isinstance(inner, ast.Name):  # `dl = self.dls.valid`
                loader = source.value(source.last_value(node, inner.id), **known)
                known = {**known, inner.id: loader}
            if isinstance(loader, DataLoader):
                yield node, loader, known


def _phases(source: ScriptSource, node: ast.AST) -> Iterator[dict[str, Any]]:
    for around in source.loops_of(node):
        if isinstance(around, ast.For) and isinstance(around.target, ast.Name) and isinstance(around.iter, ast.List):
            for item in around.iter.elts:
                if isinstance(item, ast.Constant):
                    yield {around.target.id: item.value}
            return
    yield {}


def added_in(loop: ast.For, *to_lists: str) -> dict[str, tuple[str, ast.expr]]:
    """What each pass of a loop adds to variables: by name, "list" (for `append` and the methods `to_lists`) or "sum",
    and the added expression."""
    found: dict[str, tuple[str, ast.expr]] = {}
    for node in ast.walk(loop):
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name):
            found[node.target.id] = "sum", node.value
        elif isinstance(node, ast.Call) and called(node) in ("append", *to_lists) and node.args:
            owner = receiver_of(node)
            if isinstance(owner, ast.Name):
                found[owner.id] = "list", node.args[0]
    return found


def after_loop(source: ScriptSource, loop: ast.For, name: str) -> list[ast.AST]:
    """The nodes after a loop in the same function, up to where a name is assigned or added to again."""
    last = loop.end_lineno or loop.lineno
    behind = [node for node in ast.walk(source.scope_of(loop)) if getattr(node, "lineno", 0) > last]
    again = [node.lineno for node in behind if isinstance(node, ast.For) and name in added_in(node)]
    again += [
        node.lineno
        for node in behind
        if isinstance(node, ast.Assign) and name in names_in(node) and name not in names_in(node.value)
    ]
    return [node for node in behind if getattr(node, "lineno", 0) < min(again, default=last + 10**6)]


def size_of(loader: DataLoader) -> tuple[int, int] | None:
    """Number of samples and batches of a loader; None for streams, which have no length."""
    given = loader.sampler if isinstance(loader.sampler, SubsetRandomSampler) else loader.dataset
    try:
        return len(given), len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def batch_size_of(loader: DataLoader) -> int | None:
    """Samples in a batch of a loader, also of one that Accelerate prepared; None where they differ."""
    size = loader.batch_size if loader.batch_size is not None else getattr(loader.batch_sampler, "batch_size", None)
    return size if isinstance(size, int) else None


def averages(node: ast.AST, name: str, kind: str) -> bool:
    """Whether a node divides what was added to a name by the number of batches."""
    if kind == "list" and isinstance(node, ast.Call) and called(node) in ("mean", "fmean", "average"):
        return name in names_in(node)
    if not is_operation(node, ast.Div):
        return False
    below = [part for part in ast.walk(node.right) if called(part) == "len"]
    return bool(below) and name in names_in(node.left)
