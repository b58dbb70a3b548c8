"""`data.split-overlap`: do lists of positions for training and for validation have positions in common?"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.held_samples import columns_of
from striate.doctor.evidence.reading import draws_again, positions_drawn
from striate.doctor.setup.batch import leaves
from striate.doctor.setup.reached_objects import global_names, written_by_user
from striate.doctor.setup.script_source import Function, ScriptSource, called, last_name
from striate.models.preserved_state import same_random_state
from striate.records import Finding
from striate.wording import several

_TRAINING = re.compile(r"train|trn|(?<![a-z])tr(?![a-z])")
_OTHERS = ("val", "valid", "validation", "va", "test", "te", "tst", "dev", "eval", "query", "queries", "holdout")
_IMAGES_AXES = 3
FEWEST, _FEWEST_BYTES = 5, 1000
"""Positions: two numbers are the ends of a range."""
_INDEX = ("idx", "ind", "index", "indices", "ids", "mask", "split", "fold", "nodes", "rows")


def _run(evidence: Evidence) -> Iterator[Finding]:
    found = (
        list(_positions_shared(evidence))
        or list(islice(_images_shared(evidence), 1))
        or list(_memory_shared(evidence))
        or list(_drawn_alike(evidence))
        or list(_split_again(evidence.source))
        or list(_asked_whatever_the_name(evidence.source))
    )
    found = found or list(_never_used(evidence))
    yield from found or _never_read(evidence)


def _split_again(source: ScriptSource) -> Iterator[Finding]:
    """A `setup` of a data module that draws its split, and is called for fitting and again for testing."""
    owners = list(source.nodes(ast.ClassDef))
    owners = [owner for owner in owners if any("DataModule" in ast.unparse(base) for base in owner.bases)]
    functions = [part for owner in owners for part in owner.body if isinstance(part, ast.FunctionDef)]
    for function in (part for part in functions if part.name == "setup" and source.calls("fit")):
        inside = list(ast.walk(function))
        if any(called(node) in _SEEDING and "Generator" not in ast.unparse(node) for node in inside):
            continue  # a generator by itself draws nothing
        wanted = _evaluated_by(source, functions)
        for drawn in (node for node in inside if isinstance(node, ast.Call) and called(node) in _DRAWING):
            if not _divides(drawn, inside) or _is_fixed(drawn) or _is_conditional(source, drawn, inside):
                continue
            if not _made_of(drawn, inside) & wanted:
                continue  # samples for testing are others, as those of a file
            of_sklearn = called(drawn) == "train_test_split"
            fixed = "random_state=0" if of_sklearn else "generator=torch.Generator().manual_seed(0)"
            yield SPLIT_OVERLAP.finding(
                severity="error",
                where=f"line {drawn.lineno}",
                measured=f"`{ast.unparse(drawn)}` is called in `setup`, which the trainer calls for `fit` and again "
                "for `test`: each call draws another split",
                limit="the `setup` of a data module, which is called for fitting and for testing, draws the split each "
                "time",
                why="Most test samples were trained on: the metric says nothing about new samples.",
                remedy=f"the same split each time: `{fixed}` in that call",
            )
            return


def _evaluated_by(source: ScriptSource, methods: list[ast.FunctionDef]) -> set[str]:
    """What the loaders of a data module read that the script evaluates by a call of its own."""
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
    """Whether a split may be drawn for one stage alone: under a condition, or behind one under which `setup` ends."""
    ends = [node for node in inside if isinstance(node, ast.Return) and node.lineno < drawn.lineno]
    return bool(ends) or any(isinstance(part, ast.If | ast.IfExp | ast.Try) for part in _within(source, drawn))


def _within(source: ScriptSource, node: ast.AST) -> Iterator[ast.AST]:
    """What stands around a node in its own function."""
    for part in source.around(node):
        if isinstance(part, Function):
            return
        yield part


def _made_of(drawn: ast.Call, inside: list[ast.AST]) -> set[str]:
    """What is made of the samples that a split gives, or of those at positions that it gives."""
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
    """Whether an expression holds samples that a call drew or that have one of these names, and no figure of them."""
    if value is drawn or ast.unparse(value) in names:
        return True
    if isinstance(value, ast.Call):
        receiver = [value.func.value] if isinstance(value.func, ast.Attribute) else []
        given = [*receiver, *value.args, *(word.value for word in value.keywords)]
        return called(value) not in _FIGURES and any(_holds(part, drawn, names) for part in given)
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


_SEEDING = ("manual_seed", "seed_everything", "default_rng", "seed", "RandomState", "Random")
_FIGURES = frozenset(["mean", "std", "var", "min", "max", "sum", "median", "len", "unique", "fit"])


def _divides(drawn: ast.AST, inside: list[ast.AST]) -> bool:
    """Whether parts are made of what is drawn: by the call itself, or by slices of the order that it gives."""
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


_DRAWING = ("random_split", "randperm", "permutation", "train_test_split", "shuffle")


def _drawn_alike(evidence: Evidence) -> Iterator[Finding]:
    """A function of two data sets that draws the same batch for training and for validation by the same random
    numbers."""
    source = evidence.source
    draws = not isinstance(evidence.setup.train, DataLoader) and draws_again(evidence.setup.train)
    calls = [node for node in source.nodes(ast.Call) if node.args] if draws else []
    calls = [node for node in calls if isinstance(source.value(node.func), types.FunctionType)]
    for node in calls:
        function, (given, *rest) = source.value(node.func), (source.value(part) for part in node.args)
        if not isinstance(given, str) or not _TRAINING.search(given) or not _only_draws(source.functions_of(node)):
            continue
        used = global_names(function.__code__) | set(function.__code__.co_freevars)
        held = {name: value for name, value in source.names.items() if name in used}
        both = next((pair for pair in named_pairs(held) if pair[1] is not pair[3]), None)
        others = {word for call in calls if called(call) == called(node) for word in _words_given(source, call)}
        if both is None:
            continue
        for word in sorted(others & {*_OTHERS}):
            with suppress(Exception):  # a function of the user's
                one, again, other = (_drawn(function, name, rest) for name in (given, given, word))
                if one and _equal(one, again) and _equal(one, other):
                    yield SPLIT_OVERLAP.finding(
                        severity="error",
                        where=f"`{called(node)}`",
                        measured=f"with the same random numbers `{called(node)}` gives the same batch for {given!r} "
                        f"and for {word!r}, although it has `{both[0]}` and `{both[2]}`",
                        limit="a function with data of training and validation that draws the same batch for both",
                        why="The metric is measured on samples that were trained on: it says nothing about new "
                        "samples.",
                        remedy=f"compare the name itself: `data = {both[0]} if split == {given!r} else {both[2]}`",
                    )
                    return


def _words_given(source: ScriptSource, call: ast.Call) -> set[str]:
    """The first argument of a call, or what a loop around it gives that."""
    first = call.args[0]
    lists: list[ast.AST] = [first]
    for around in source.around(call) if isinstance(first, ast.Name) else ():
        loops = [around] if isinstance(around, ast.For) else getattr(around, "generators", [])
        lists += [
            part for loop in loops if ast.unparse(loop.target) == ast.unparse(first) for part in ast.walk(loop.iter)
        ]
    return {part.value for part in lists if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def _only_draws(functions: list[Function]) -> bool:
    """Whether a function is known, and neither goes over data nor learns."""
    inside = [node for function in functions for node in ast.walk(function)]
    return bool(inside) and not any(
        isinstance(node, ast.For | ast.While) or called(node) in ("backward", "step") for node in inside
    )


def _drawn(function: types.FunctionType, name: str, rest: list[Any]) -> list[torch.Tensor]:
    with same_random_state():
        return [part.clone() for _, part in leaves(function(name, *rest))]


def _equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def _asked_whatever_the_name(source: ScriptSource) -> Iterator[Finding]:
    """A loop over names of splits that evaluates batches of training for each, and keeps the result under the name:
    `for split in ("train", "val"): out[split] = loss(get_batch("train"))`."""
    for loop in source.nodes(ast.For):
        named, name = source.value(loop.iter), last_name(loop.target)
        words = [word for word in named if isinstance(word, str)] if isinstance(named, list | tuple | dict) else []
        training = [word for word in words if _TRAINING.search(word)]
        if len(training) != 1 or not {*words} & {*_OTHERS}:
            continue
        inside = [part for line in loop.body for part in ast.walk(line)]
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
        reached = [*inside, *(part for function in functions for part in ast.walk(function))]
        evaluates = any(source.runs_network(part) and source.without_gradient(part) for part in reached)
        if evaluates and known and all(repr(training[0]) in ast.unparse(one) for one in known):
            text = ast.unparse(known[0])
            yield SPLIT_OVERLAP.finding(
                severity="warning",
                where=f"line {known[0].lineno}",
                measured=f"`{text}` runs in a loop over `{ast.unparse(loop.iter)}`, whatever `{name}` is, but its "
                "results are saved or printed under each of these names",
                limit="a loop over names of splits that evaluates training batches for each of them",
                why="The metric is measured on samples that were trained on: it says nothing about new samples.",
                remedy=f"`{text.replace(repr(training[0]), name)}`",
            )
            return


def _is_only_a_name(source: ScriptSource, use: ast.AST) -> bool:
    """Whether it is what something is kept or printed under: `out[f"{split}/loss"] = …`."""
    owner = source.parent(use)
    while isinstance(owner, ast.FormattedValue | ast.JoinedStr):
        owner = source.parent(owner)
    kept = isinstance(owner, ast.Subscript) and isinstance(owner.ctx, ast.Store)
    return kept or (owner is not None and called(owner) == "print")


def _never_used(evidence: Evidence) -> Iterator[Finding]:
    """Evaluation that is given the training loader, where no code uses the one of validation."""
    source, train, val = evidence.source, evidence.setup.train, evidence.setup.val
    own = [name for name, value in source.names.items() if value is val and isinstance(value, DataLoader)]
    nodes = list(source.nodes()) if own else []
    if any(isinstance(node, ast.Name) and node.id in own and isinstance(node.ctx, ast.Load) for node in nodes):
        return
    for node in nodes:
        functions = source.functions_of(node) if isinstance(node, ast.Call) else []
        if not isinstance(node, ast.Call) or len(functions) != 1 or not _evaluates(functions[0]):
            continue
        arguments = (*node.args, *(word.value for word in node.keywords))
        given = next((value for value in arguments if source.value(value) is train), None)
        if given is not None:
            yield SPLIT_OVERLAP.finding(
                severity="warning",
                where=f"line {node.lineno}",
                measured=f"`{ast.unparse(node)}` evaluates on `{ast.unparse(given)}`, which is trained on, and no code "
                f"uses `{own[0]}`",
                limit="an evaluation on the training loader, while no code uses the validation loader",
                why="The metric is measured on samples that were trained on: it says nothing about new samples.",
                remedy=f"`{own[0]}` instead of `{ast.unparse(given)}` there",
            )
            return


def _never_read(evidence: Evidence) -> Iterator[Finding]:
    """Data that are made beside those of training under a name of validation, in one line, and that no code reads,
    though an evaluation is printed by that name."""
    source = evidence.source
    nodes = list(source.nodes())
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        names = [part.id for part in target.elts if isinstance(part, ast.Name)] if isinstance(target, ast.Tuple) else []
        training = [name for name in names if _TRAINING.search(name.lower())]
        for name in names:
            words = name.lower().split("_")
            word = next((one for one in _OTHERS if one in words), None)
            if word is None or name in read or not training or training[0] not in read:
                continue
            if not isinstance(source.names.get(name), torch.Tensor | np.ndarray | list | Dataset):
                continue
            named = [part for part in nodes if isinstance(part, ast.Constant) and _says(part.value, word)]
            if named:
                yield SPLIT_OVERLAP.finding(
                    severity="warning",
                    where=f"line {getattr(node, 'lineno', 0)}",
                    measured=f"`{name}` is created with `{training[0]}` but never read, although line "
                    f"{named[0].lineno} names `{word}`",
                    limit="validation data that are created with the training data, but never read",
                    why="The metric is measured on samples that were trained on: it says nothing about new samples.",
                    remedy=f"use `{name}` where the metrics of `{word}` are measured",
                )
                return


def _says(value: object, word: str) -> bool:
    return isinstance(value, str) and word in re.split(r"[^a-z]+", value.lower())


def _evaluates(function: Function) -> bool:
    """Whether a function goes over data and does not learn from them."""
    inside = list(ast.walk(function))
    learns = any(called(node) in ("backward", "step") for node in inside)
    return not learns and any(isinstance(node, ast.For) for node in inside)


def _positions_shared(evidence: Evidence) -> Iterator[Finding]:
    names = evidence.source.names
    for name, value in list(names.items()):
        if not is_for_training(name):
            continue
        chosen = positions(value)
        for other, also in counterparts(name, names):
            others = positions(also)
            shared = chosen & others
            shares = len(others) >= FEWEST and len(shared) > 0.01 * len(others)
            if shares and not _within_rest(evidence.source, other, chosen):
                yield _shared(
                    name,
                    other,
                    f"{several(len(shared), 'position')} of {len(others)} in `{other}` are also in `{name}`",
                )
                return


def _within_rest(source: ScriptSource, name: str, chosen: set[int]) -> bool:
    """Whether positions count within what is left without the `chosen` ones, wherever they are used:
    `evaluate(x[rest], y[rest], name)`, or `x[rest][name]`."""
    uses = [node for node in source.nodes(ast.Name) if node.id == name and isinstance(node.ctx, ast.Load)]
    owners = [owner for use in uses if called(owner := source.parent(use) or use) != "len"]
    for owner in owners:
        beside = owner.args if isinstance(owner, ast.Call) else [getattr(owner, "value", None)]
        parts = [positions(source.value(part.slice)) for part in beside if isinstance(part, ast.Subscript)]
        if not parts or not all(part and not part & chosen for part in parts):
            return False
    return bool(owners)


def _images_shared(evidence: Evidence) -> Iterator[Finding]:
    """Images in variables named for training, or in the data set of the training loader, and in those named for
    validation, of scripts that ask no loader for validation."""
    names = _with_parts(evidence.source.names) if evidence.setup.val is None else {}
    for name, value, other, also in named_pairs(names):
        if _are_images(value):
            yield from _same_images(f"`{name}`", value, other, also)
    drawn = positions_drawn(evidence.setup.train) if names else None
    for column in [] if drawn is None else filter(_are_images, columns_of(drawn[0])):
        for other, also in _attributes_of(names):
            if drawn is not None and _is_held_out(other) and _are_images(also):
                yield from _same_images("the training data set", column[sorted(drawn[1])], other, also)


def _with_parts(names: Mapping[str, Any]) -> dict[str, Any]:
    """Variables, and the arrays that dictionaries among them hold by a name."""
    tables = [(name, value.items()) for name, value in list(names.items()) if isinstance(value, dict)]
    held = ((f"{name}[{key!r}]", part) for name, parts in tables for key, part in parts if isinstance(key, str))
    return dict(names) | {name: part for name, part in held if isinstance(part, torch.Tensor | np.ndarray)}


def _attributes_of(names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Variables, and what objects of the user's own classes hold."""
    for name, value in list(names.items()):
        yield name, value
        if written_by_user(type(value).__module__):
            yield from ((f"{name}.{own}", part) for own, part in list(getattr(value, "__dict__", {}).items()))


def _is_held_out(name: str) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    return any(word in _OTHERS for word in words) and not _TRAINING.search(name.lower())


def _same_images(name: str, value: Any, other: str, also: Any) -> Iterator[Finding]:
    if not _are_images(also) or also.shape[1:] != value.shape[1:] or also.dtype != value.dtype:
        return
    known = set(_contents(value))
    shared = sum(content in known for content in _contents(also))
    if shared >= FEWEST and shared > 0.01 * len(also):
        measured = f"{shared} of {several(len(also), 'image')} in `{other}` are also in {name}"
        yield _shared(name.strip("`"), other, measured)


def _memory_shared(evidence: Evidence) -> Iterator[Finding]:
    """Arrays named for training and for validation of which one is half or more of the other's memory, as
    `train, val = ids, ids[n:]` leaves them. A few numbers before validation may belong to both, as its context."""
    names = _with_parts(evidence.source.names)
    for name, value, other, also in named_pairs(names):
        ours, theirs = _memory(value), _memory(also)
        if is_for_training(name) or ours is None or theirs is None or len(theirs) < _FEWEST_BYTES:
            continue
        dealt = _has_rest(names, ours, theirs) or not _are_of_one_function(evidence.source, name, other)
        if _in_common(ours, theirs) >= len(theirs) / 2 and not dealt:
            shared = _in_common(ours, theirs)
            yield _shared(
                name, other, f"{shared / len(theirs):.0%} of the memory of `{other}` is also part of `{name}`"
            )
            return


def _in_common(one: range, other: range) -> int:
    return min(one.stop, other.stop) - max(one.start, other.start)


def _are_of_one_function(source: ScriptSource, name: str, other: str) -> bool:
    """Whether both are variables of one function, or of the file, as far as code tells where they are given values."""
    scopes: dict[str, set[ast.AST]] = {name: set(), other: set()}
    for node in source.nodes():
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in scopes:
            scopes[node.id].add(source.scope_of(node))
        elif isinstance(node, ast.arg) and node.arg in scopes:
            scopes[node.arg].add(source.scope_of(node))
    return not all(scopes.values()) or bool(scopes[name] & scopes[other])


def _has_rest(names: Mapping[str, Any], ours: range, theirs: range) -> bool:
    """Whether a variable holds what is left of one part without the other: `fit(x_train, validation_split=0.2)` deals
    what it is given to two parts itself."""
    rests = (rest for value in names.values() if (rest := _memory(value)) is not None)
    least = len(ours) - len(theirs) - _FEWEST_BYTES
    return any(_in_common(rest, ours) >= max(least, 1) and _in_common(rest, theirs) <= 0 for rest in rests)


def _memory(value: Any) -> range | None:
    """The addresses of an array or a tensor whose numbers lie side by side."""
    if isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.is_contiguous():
        return range(value.data_ptr(), value.data_ptr() + value.numel() * value.element_size())
    if isinstance(value, np.ndarray) and value.flags.c_contiguous:
        return range(value.ctypes.data, value.ctypes.data + value.nbytes)
    return None


def _are_images(value: Any) -> bool:
    kind = isinstance(value, torch.Tensor | np.ndarray) and value.ndim >= _IMAGES_AXES
    return kind and not getattr(value, "requires_grad", False) and len(value) > 0


def _contents(images: torch.Tensor | np.ndarray[Any, np.dtype[Any]]) -> Iterator[bytes]:
    """Of each that has more than two values: drawings of one color on another may be the same by chance."""
    rows = images.detach().cpu().double().numpy() if isinstance(images, torch.Tensor) else images
    return (row.tobytes() for row in rows if row.size and ((row > row.min()) & (row < row.max())).any())


def _shared(name: str, other: str, measured: str) -> Finding:
    return SPLIT_OVERLAP.finding(
        severity="error",
        where=f"{name} and {other}",
        measured=measured,
        limit="1 % of the positions or images named for validation or test, or half of the memory of an array, are "
        "also in those of training (positions within the remaining samples are exempt)",
        why="The metric is measured on samples that were trained on: it says nothing about new samples.",
        remedy="split once: `order = torch.randperm(n); train, val = order[: int(0.8 * n)], order[int(0.8 * n) :]`",
    )


def is_for_training(name: str) -> bool:
    """Whether a name says that it is an index or a mask of what is trained on."""
    return bool(_TRAINING.search(name.lower())) and any(word in name.lower() for word in _INDEX)


def named_pairs(names: Mapping[str, Any]) -> Iterator[tuple[str, Any, str, Any]]:
    """Variables named for training, each with those that have its name, but for validation or test."""
    for name, value in list(names.items()):
        if _TRAINING.search(name.lower()):
            yield from ((name, value, *pair) for pair in counterparts(name, names))


def counterparts(name: str, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What has the name of something of training, but for that of validation or test."""
    for word in _OTHERS:
        other = _TRAINING.sub(word, name.lower())
        yield from ((found, value) for found, value in names.items() if found.lower() == other)


def positions(value: Any) -> set[int]:
    """Positions in an index or a mask; none where it is neither."""
    if isinstance(value, list | tuple | range) and all(type(number) is int for number in value[:100]):
        value = list(value)
    elif not isinstance(value, torch.Tensor | np.ndarray) or value.ndim != 1:
        return set()
    numbers = np.asarray(value)
    if numbers.dtype == bool:
        numbers = numbers.nonzero()[0]
    return set(numbers.tolist()) if numbers.dtype.kind in "iu" else set()


SPLIT_OVERLAP = Check(
    codes=("data.split-overlap",),
    question="Are the positions of training and validation disjoint?",
    run=_run,
    of_source=True,
    explains="data.leak",
)
