"""Positions, images and memory that training and validation share."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.data.splits.overlap.named_parts import (
    FEWEST,
    OTHERS,
    TRAINING,
    counterparts,
    is_for_training,
    named_pairs,
    positions,
)
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.held_samples import columns_of
from striate.doctor.evidence.read_batches import positions_drawn
from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called
from striate.records import Finding
from striate.wording import percent, several

_IMAGES_AXES, _FEWEST_BYTES = 3, 1000


def positions_shared(evidence: Evidence) -> Iterator[Finding]:
    names = evidence.source.outer_names
    for name, value in list(names.items()):
        if not is_for_training(name):
            continue
        chosen = positions(value)
        for other, also in counterparts(name, names):
            others = positions(also)
            shared = chosen & others
            shares = len(others) >= FEWEST and len(shared) > 0.01 * len(others)
            divided = shares and _divided_further(names, chosen, others)
            if shares and not divided and not _within_rest(evidence.source, other, chosen):
                yield _finding(
                    name,
                    other,
                    f"{several(len(shared), 'position')} of {len(others)} in `{other}` are also in `{name}`",
                )
                return


def _divided_further(names: Mapping[str, Any], chosen: set[int], others: set[int]) -> bool:
    """Whether one of two sets of positions is a part of the other, and another variable holds the rest: `fit, val =
    train_test_split(train)`, `train, val = train_test_split(dev)`."""
    nested = others < chosen or chosen < others
    return nested and any(positions(value) == chosen ^ others for value in list(names.values()))


def _within_rest(source: ScriptSource, name: str, chosen: set[int]) -> bool:
    """Whether positions are always used relative to the samples without the `chosen` ones: `evaluate(x[rest], y[rest],
    name)`, or `x[rest][name]`."""
    uses = [node for node in source.nodes(ast.Name) if node.id == name and isinstance(node.ctx, ast.Load)]
    owners = [owner for use in uses if called(owner := source.parent(use) or use) != "len"]
    for owner in owners:
        beside = owner.args if isinstance(owner, ast.Call) else [getattr(owner, "value", None)]
        parts = [positions(source.value(part.slice)) for part in beside if isinstance(part, ast.Subscript)]
        if not parts or not all(part and not part & chosen for part in parts):
            return False
    return bool(owners)


def images_shared(evidence: Evidence) -> Iterator[Finding]:
    """A finding if variables for training, or the data set of the training loader, share images with variables for
    validation, in scripts without a validation loader."""
    names = _with_parts(evidence.source.outer_names) if evidence.setup.val is None else {}
    for name, value, other, also in named_pairs(names):
        if _are_images(value):
            yield from _same_images(f"`{name}`", value, other, also)
    drawn = positions_drawn(evidence.setup.train) if names else None
    for column in [] if drawn is None else filter(_are_images, columns_of(drawn[0])):
        for other, also in _attributes_of(names):
            if drawn is not None and _is_held_out(other) and _are_images(also):
                yield from _same_images("the training data set", column[sorted(drawn[1])], other, also)


def _with_parts(names: Mapping[str, Any]) -> dict[str, Any]:
    """Variables, and the arrays in dictionaries among them."""
    tables = [(name, value.items()) for name, value in list(names.items()) if isinstance(value, dict)]
    held = ((f"{name}[{key!r}]", part) for name, parts in tables for key, part in parts if isinstance(key, str))
    return dict(names) | {name: part for name, part in held if isinstance(part, torch.Tensor | np.ndarray)}


def _attributes_of(names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Variables, and attributes of objects of the user's classes."""
    for name, value in list(names.items()):
        yield name, value
        if written_by_user(type(value).__module__):
            yield from ((f"{name}.{own}", part) for own, part in list(getattr(value, "__dict__", {}).items()))


def _is_held_out(name: str) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    return any(word in OTHERS for word in words) and not TRAINING.search(name.lower())


def _same_images(name: str, value: Any, other: str, also: Any) -> Iterator[Finding]:
    if not _are_images(also) or also.shape[1:] != value.shape[1:] or also.dtype != value.dtype:
        return
    known = set(_contents(value))
    shared = sum(content in known for content in _contents(also))
    if shared >= FEWEST and shared > 0.01 * len(also):
        measured = f"{shared} of {several(len(also), 'image')} in `{other}` are also in {name}"
        yield _finding(name.strip("`"), other, measured)


def memory_shared(evidence: Evidence) -> Iterator[Finding]:
    """A finding if the array of training contains half or more of the memory of the array of validation, as in `train,
    val = ids, ids[n:]`. Both may share a few values before validation, as its context."""
    names = _with_parts(evidence.source.outer_names)
    for name, value, other, also in named_pairs(names):
        ours, theirs = _memory(value), _memory(also)
        if is_for_training(name) or ours is None or theirs is None or len(theirs) < _FEWEST_BYTES:
            continue
        separate = _has_rest(names, ours, theirs) or not _are_of_one_function(evidence.source, name, other)
        if _in_common(ours, theirs) >= len(theirs) / 2 and not separate:
            shared = _in_common(ours, theirs)
            yield _finding(
                name, other, f"{percent(shared / len(theirs), 0)} of the memory of `{other}` is also part of `{name}`"
            )
            return


def _in_common(one: range, other: range) -> int:
    return min(one.stop, other.stop) - max(one.start, other.start)


def _are_of_one_function(source: ScriptSource, name: str, other: str) -> bool:
    """Whether both names are assigned in the same scope, or in an unknown one."""
    scopes: dict[str, set[ast.AST]] = {name: set(), other: set()}
    for node in source.nodes():
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in scopes:
            scopes[node.id].add(source.scope_of(node))
        elif isinstance(node, ast.arg) and node.arg in scopes:
            scopes[node.arg].add(source.scope_of(node))
    return not all(scopes.values()) or bool(scopes[name] & scopes[other])


def _has_rest(names: Mapping[str, Any], ours: range, theirs: range) -> bool:
    """Whether another variable holds the rest of `ours` without `theirs`: `fit(x_train, validation_split=0.2)` splits
    its argument itself."""
    rests = (rest for value in names.values() if (rest := _memory(value)) is not None)
    least = len(ours) - len(theirs) - _FEWEST_BYTES
    return any(_in_common(rest, ours) >= max(least, 1) and _in_common(rest, theirs) <= 0 for rest in rests)


def _memory(value: Any) -> range | None:
    """The addresses of a contiguous array or tensor; None for others."""
    if isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.is_contiguous():
        return range(value.data_ptr(), value.data_ptr() + value.numel() * value.element_size())
    if isinstance(value, np.ndarray) and value.flags.c_contiguous:
        return range(value.ctypes.data, value.ctypes.data + value.nbytes)
    return None


def _are_images(value: Any) -> bool:
    kind = isinstance(value, torch.Tensor | np.ndarray) and value.ndim >= _IMAGES_AXES
    return kind and not getattr(value, "requires_grad", False) and len(value) > 0


def _contents(images: torch.Tensor | np.ndarray[Any, np.dtype[Any]]) -> Iterator[bytes]:
    """The bytes of each image with more than two values: drawings in one color may be equal by chance."""
    rows = images.detach().cpu().double().numpy() if isinstance(images, torch.Tensor) else images
    return (row.tobytes() for row in rows if row.size and ((row > row.min()) & (row < row.max())).any())


def _finding(name: str, other: str, measured: str) -> Finding:
    return Finding(
        code="data.split-overlap",
        severity="error",
        where=f"{name} and {other}",
        measured=measured,
        threshold="1 % of the positions or images named for validation or test, or half of the memory of an array, are "
        "also in those of training (positions within the remaining samples are exempt)",
        why="The metric is measured on samples that were trained on: it says nothing about new samples.",
        remedy="split once: `order = torch.randperm(n); train, val = order[: int(0.8 * n)], order[int(0.8 * n) :]`",
    )
