"""Splits that are drawn again for each stage, and batches that are equal for training and validation."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch.utils.data import DataLoader

from striate.doctor.checks.data.splits.overlap.named_parts import OTHERS, TRAINING, named_pairs
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import repeats_samples
from striate.doctor.setup.batch import leaves
from striate.doctor.setup.reached_objects import global_names
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import called, nodes_in
from striate.models.preserved_state import same_random_state
from striate.records import Finding

_SEEDING = ("manual_seed", "seed_everything", "default_rng", "seed", "RandomState", "Random")
_DRAWING = ("random_split", "randperm", "permutation", "train_test_split", "shuffle")
_STATISTICS = frozenset(["mean", "std", "var", "min", "max", "sum", "median", "len", "unique", "fit"])


def split_again(source: ScriptSource) -> Iterator[Finding]:
    """A finding if the `setup` of a data module draws its split, and is called for fitting and again for testing."""
    owners = list(source.nodes(ast.ClassDef))
    owners = [owner for owner in owners if any("DataModule" in ast.unparse(base) for base in owner.bases)]
    functions = [part for owner in owners for part in owner.body if isinstance(part, ast.FunctionDef)]
    for function in (part for part in functions if part.name == "setup" and source.calls("fit")):
        inside = list(ast.walk(function))
        if any(called(node) in _SEEDING and "Generator" not in ast.unparse(node) for node in inside):
            continue  # a generator alone draws nothing
        evaluated = _evaluated_by(source, functions)
        for drawn in (node for node in inside if isinstance(node, ast.Call) and called(node) in _DRAWING):
            if not _divides(drawn, inside) or _is_fixed(drawn) or _is_conditional(source, drawn, inside):
                continue
            if not _made_of(drawn, inside) & evaluated:
                continue  # test samples come from elsewhere, such as another file
            of_sklearn = called(drawn) == "train_test_split"
            fixed = "random_state=0" if of_sklearn else "generator=torch.Generator().manual_seed(0)"
            yield Finding(
                code="data.split-overlap",
                severity="error",
                where=f"line {drawn.lineno}",
                measured=f"`{ast.unparse(drawn)}` is called in `setup`, which the trainer calls for `fit` and again "
                "for `test`: each call draws another split",
                threshold="the `setup` of a data module, which is called for fitting and for testing, draws the split "
                "each time",
                why="Most test samples were trained on: the metric says nothing about new samples.",
                remedy=f"the same split each time: `{fixed}` in that call",
            )
            return


def _evaluated_by(source: ScriptSource, methods: list[ast.FunctionDef]) -> set[str]:
    """The variables that loaders of a data module read, for the stages (test, validate, predict) that the script
    calls."""
    names = {"test": "test_dataloader", "validate": "val_dataloader", "predict": "predict_dataloader"}
    loaders = {loader for name, loader in names.items() if source.calls(name)}
    inside = (part for method in methods if method.name in loaders for part in ast.walk(method))
    return {ast.unparse(part) for part in inside if isinstance(part, ast.Attribute | ast.Subscript)}


def _is_fixed(drawn: ast.Call) -> bool:
    """Whether a split is the same each time."""
    unmixed = any(word.arg == "shuffle" and ast.unparse(word.value) == "False" for word in drawn.keywords)
    given = any(word.arg in ("generator", "random_state") for word in drawn.keywords)
    return unmixed or given or (called(drawn) == "random_split" and len(drawn.args) > 2)


def _is_conditional(source: ScriptSource, drawn: ast.Call, inside: list[ast.AST]) -> bool:
    """Whether a split may be drawn for one stage alone: under a condition, or after a conditional return."""
    ends = [node for node in inside if isinstance(node, ast.Return) and node.lineno < drawn.lineno]
    return bool(ends) or any(isinstance(part, ast.If | ast.IfExp | ast.Try) for part in _within(source, drawn))


def _within(source: ScriptSource, node: ast.AST) -> Iterator[ast.AST]:
    """The nodes around a node within its own function."""
    for part in source.enclosing(node):
        if isinstance(part, Function):
            return
        yield part


def _made_of(drawn: ast.Call, inside: list[ast.AST]) -> set[str]:
    """The texts of targets that are assigned samples or positions of a split."""
    names = {ast.unparse(drawn.args[0])} if called(drawn) == "shuffle" and drawn.args else set[str]()
    before = None
    while before != names:
        before = set(names)
        for node in inside:
            if isinstance(node, ast.Assign) and _holds(node.value, drawn, names):
                names |= {
                    ast.unparse(part)
                    for target in node.targets
                    for part in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])
                }
    return names


def _holds(value: ast.expr, drawn: ast.Call, names: set[str]) -> bool:
    """Whether an expression contains samples that a call drew or that have one of these names, not statistics of
    them."""
    if value is drawn or ast.unparse(value) in names:
        return True
    if isinstance(value, ast.Call):
        receiver = [value.func.value] if isinstance(value.func, ast.Attribute) else []
        given = [*receiver, *value.args, *(word.value for word in value.keywords)]
        return called(value) not in _STATISTICS and any(_holds(part, drawn, names) for part in given)
    parts: list[ast.expr] = []
    if isinstance(value, ast.Subscript):
        parts = [value.value, value.slice]
    elif isinstance(value, ast.Attribute):
        parts = [value.value]
    elif isinstance(value, ast.BinOp):
        parts = [value.left]
    elif isinstance(value, ast.ListComp):
        parts = [value.generators[0].iter]
    elif isinstance(value, ast.Tuple | ast.List):
        parts = value.elts
    return any(_holds(part, drawn, names) for part in parts)


def _divides(drawn: ast.AST, inside: list[ast.AST]) -> bool:
    """Whether the call splits samples: by itself, or by slices of the order that it returns."""
    if called(drawn) in ("random_split", "train_test_split", "shuffle"):
        return True
    names = {
        ast.unparse(target)
        for node in inside
        if isinstance(node, ast.Assign) and any(part is drawn for part in ast.walk(node.value))
        for target in node.targets
    }
    sliced = (node for node in inside if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice))
    return any(ast.unparse(node.value) in names or any(p is drawn for p in ast.walk(node.value)) for node in sliced)


def drawn_alike(evidence: Evidence) -> Iterator[Finding]:
    """A finding if a function with data of training and validation returns the same batch for both with the same random
    numbers."""
    source = evidence.source
    draws = not isinstance(evidence.setup.train, DataLoader) and repeats_samples(evidence.setup.train)
    calls = [node for node in source.nodes(ast.Call) if node.args] if draws else []
    calls = [node for node in calls if isinstance(source.value(node.func), types.FunctionType)]
    for node in calls:
        function, (given, *rest) = source.value(node.func), (source.value(part) for part in node.args)
        if not isinstance(given, str) or not TRAINING.search(given) or not _only_draws(source.functions_of(node)):
            continue
        used = global_names(function.__code__) | set(function.__code__.co_freevars)
        held = {name: value for name, value in source.names.items() if name in used}
        both = next((pair for pair in named_pairs(held) if pair[1] is not pair[3]), None)
        others = {word for call in calls if called(call) == called(node) for word in _words_given(source, call)}
        if both is None:
            continue
        for word in sorted(others & {*OTHERS}):
            with suppress(Exception):  # a function of the user's
                one, again, other = (_drawn(function, name, rest) for name in (given, given, word))
                if one and _equal(one, again) and _equal(one, other):
                    yield Finding(
                        code="data.split-overlap",
                        severity="error",
                        where=f"`{called(node)}`",
                        measured=f"with the same random numbers `{called(node)}` gives the same batch for {given!r} "
                        f"and for {word!r}, although it has `{both[0]}` and `{both[2]}`",
                        threshold="a function with data of training and validation that draws the same batch for both",
                        why="The metric is measured on samples that were trained on: it says nothing about new "
                        "samples.",
                        remedy=f"compare the name itself: `data = {both[0]} if split == {given!r} else {both[2]}`",
                    )
                    return


def _words_given(source: ScriptSource, call: ast.Call) -> set[str]:
    """The strings that the first argument of a call may have, by itself or as the variable of a loop around it."""
    first = call.args[0]
    lists: list[ast.AST] = [first]
    for around in source.enclosing(call) if isinstance(first, ast.Name) else ():
        loops = [around] if isinstance(around, ast.For) else getattr(around, "generators", [])
        lists += [
            part for loop in loops if ast.unparse(loop.target) == ast.unparse(first) for part in ast.walk(loop.iter)
        ]
    return {part.value for part in lists if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def _only_draws(functions: list[Function]) -> bool:
    """Whether the functions are known, and contain neither loops nor training."""
    inside = list(nodes_in(functions))
    return bool(inside) and not any(
        isinstance(node, ast.For | ast.While) or called(node) in ("backward", "step") for node in inside
    )


def _drawn(function: types.FunctionType, name: str, rest: list[Any]) -> list[torch.Tensor]:
    with same_random_state():
        return [part.clone() for _, part in leaves(function(name, *rest))]


def _equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))
