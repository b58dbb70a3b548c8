"""Validation data that no evaluation reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.splits.overlap.named_parts import OTHERS, TRAINING
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_objects
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import called, last_name, nodes_in
from striate.records import Finding

_VALIDATION = ("val", "valid", "validation", "dev")


def never_used(evidence: Evidence) -> Iterator[Finding]:
    """A finding if an evaluation uses the training loader, and no code uses the validation loader."""
    source, train, val = evidence.source, evidence.setup.train, evidence.setup.val
    own = [name for name, value in source.names.items() if value is val and isinstance(value, DataLoader)]
    nodes = list(source.nodes()) if own else []
    reads = (node for node in nodes if isinstance(node, ast.Name) and node.id in own and isinstance(node.ctx, ast.Load))
    if not all(_is_parameter(source.function_of(node), node.id) for node in reads):
        return
    for node in nodes:
        functions = source.functions_of(node) if isinstance(node, ast.Call) else []
        if isinstance(node, ast.For) and source.loops_of(node) and _asks(source, node):
            arguments, text = [node.iter], f"the loop over `{ast.unparse(node.iter)}`"
        elif isinstance(node, ast.Call) and len(functions) == 1 and _evaluates(functions[0]):
            arguments, text = [*node.args, *(word.value for word in node.keywords)], f"`{ast.unparse(node)}`"
        else:
            continue
        given = next((value for value in arguments if source.value(value) is train), None)
        if given is not None:
            yield Finding(
                code="data.split-overlap",
                severity="warning",
                where=f"line {node.lineno}",
                measured=f"{text} evaluates on `{ast.unparse(given)}`, which is trained on, and no code "
                f"uses `{own[0]}`",
                threshold="an evaluation on the training loader, while no code uses the validation loader",
                why="The metric is measured on samples that were trained on: it says nothing about new samples.",
                remedy=f"`{own[0]}` instead of `{ast.unparse(given)}` there",
            )
            return


def _is_parameter(function: Function | None, name: str) -> bool:
    """Whether a name is a parameter of the function, whose value is known where it is called."""
    return function is not None and any(node.arg == name for node in nodes_in(function.args, ast.arg))


def never_read(evidence: Evidence) -> Iterator[Finding]:
    """A finding if a line creates validation data together with training data, but no code reads them, although an
    evaluation is printed under their name."""
    source = evidence.source
    nodes = list(source.nodes())
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        names = [part.id for part in target.elts if isinstance(part, ast.Name)] if isinstance(target, ast.Tuple) else []
        training = [name for name in names if TRAINING.search(name.lower())]
        for name in names:
            words = name.lower().split("_")
            word = next((one for one in OTHERS if one in words), None)
            if word is None or name in read or not training or training[0] not in read:
                continue
            if not isinstance(source.names.get(name), torch.Tensor | np.ndarray | list | Dataset):
                continue
            named = [part for part in nodes if isinstance(part, ast.Constant) and _has_word(part.value, word)]
            if named:
                yield Finding(
                    code="data.split-overlap",
                    severity="warning",
                    where=f"line {getattr(node, 'lineno', 0)}",
                    measured=f"`{name}` is created with `{training[0]}` but never read, although line "
                    f"{named[0].lineno} names `{word}`",
                    threshold="validation data that are created with the training data, but never read",
                    why="The metric is measured on samples that were trained on: it says nothing about new samples.",
                    remedy=f"use `{name}` where the metrics of `{word}` are measured",
                )
                return


def another_part(evidence: Evidence) -> Iterator[Finding]:
    """A finding if a loader named for validation reads the data set of testing or training, while nothing reads the
    data set named for validation."""
    source, names = evidence.source, evidence.source.names
    own = [name for name, value in names.items() if isinstance(value, Dataset) and _is_of_validation(name)]
    if len(own) != 1:
        return
    unread = names[own[0]]
    others = {id(value): name for name, value in names.items() if isinstance(value, Dataset) and value is not unread}
    loaders = [value for value in names.values() if isinstance(value, DataLoader)]
    if any(thing is unread for thing in reached_objects([evidence.setup.train, *loaders])):
        return  # a loader reads it as a part of another data set
    for node in source.nodes(ast.Assign):
        name = last_name(node.targets[0])
        loader = names.get(name) if _is_of_validation(name) else None
        read = others.get(id(loader.dataset)) if isinstance(loader, DataLoader) else None
        uses = (part for part in nodes_in(source.scope_of(node), ast.Name) if part.id == own[0])
        if read is not None and not any(isinstance(part.ctx, ast.Load) for part in uses):
            yield Finding(
                code="data.split-overlap",
                severity="warning",
                where=f"line {node.lineno}",
                measured=f"`{name}` reads `{read}`, and nothing reads `{own[0]}`",
                threshold="a loader named for validation reads another data set, and nothing reads the one named for "
                "validation",
                why="What is chosen by it, such as the best epoch, is chosen on samples of another part: a metric on "
                "that part says little about new samples.",
                remedy=f"`{own[0]}` instead of `{read}` there",
            )
            return


def _is_of_validation(name: str) -> bool:
    return bool({re.sub("(set|data|loader|ds|dl)$", "", word) for word in name.lower().split("_")} & {*_VALIDATION})


def _has_word(value: object, word: str) -> bool:
    return isinstance(value, str) and word in re.split(r"[^a-z]+", value.lower())


def _asks(source: ScriptSource, loop: ast.For) -> bool:
    """Whether a loop runs the network without gradients, and does not train another one, as that of a teacher does."""
    asks = any(source.runs_network(part) and source.without_gradient(part) for part in ast.walk(loop))
    return asks and not _learns(loop)


def _evaluates(function: Function) -> bool:
    """Whether a function loops over data without training."""
    return not _learns(function) and any(isinstance(node, ast.For) for node in ast.walk(function))


def _learns(tree: ast.AST) -> bool:
    return any(called(node) in ("backward", "step") for node in ast.walk(tree))


def training_under_each_name(source: ScriptSource) -> Iterator[Finding]:
    """A finding if a loop over names of splits evaluates training batches for each, and saves the results under all
    names: `for split in ("train", "val"): out[split] = loss(get_batch("train"))`."""
    for loop in source.nodes(ast.For):
        named, name = source.value(loop.iter), last_name(loop.target)
        words = [word for word in named if isinstance(word, str)] if isinstance(named, list | tuple | dict) else []
        training = [word for word in words if TRAINING.search(word)]
        if len(training) != 1 or not {*words} & {*OTHERS}:
            continue
        inside = list(nodes_in(loop.body))
        uses = [part for part in inside if isinstance(part, ast.Name) and part.id == name]
        if not uses or not all(_is_only_a_name(source, use) for use in uses):
            continue
        asked = [source.parent(part) for part in inside if isinstance(part, ast.Constant) and part.value in words]
        known = [
            one
            for one in asked
            if (isinstance(one, ast.Call) and source.functions_of(one))
            or (isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Load))
        ]
        functions = [
            function for part in inside if isinstance(part, ast.Call) for function in source.functions_of(part)
        ]
        reached = [*inside, *nodes_in(functions)]
        evaluates = any(source.runs_network(part) and source.without_gradient(part) for part in reached)
        if evaluates and known and all(repr(training[0]) in ast.unparse(one) for one in known):
            text = ast.unparse(known[0])
            yield Finding(
                code="data.split-overlap",
                severity="warning",
                where=f"line {known[0].lineno}",
                measured=f"`{text}` runs in a loop over `{ast.unparse(loop.iter)}`, whatever `{name}` is, but its "
                "results are saved or printed under each of these names",
                threshold="a loop over names of splits that evaluates training batches for each of them",
                why="The metric is measured on samples that were trained on: it says nothing about new samples.",
                remedy=f"`{text.replace(repr(training[0]), name)}`",
            )
            return


def _is_only_a_name(source: ScriptSource, use: ast.AST) -> bool:
    """Whether a variable is only the name under which something is saved or printed: `out[f"{split}/loss"] = …`."""
    owner = source.parent(use)
    while isinstance(owner, ast.FormattedValue | ast.JoinedStr):
        owner = source.parent(owner)
    kept = isinstance(owner, ast.Subscript) and isinstance(owner.ctx, ast.Store)
    return kept or (owner is not None and called(owner) == "print")
