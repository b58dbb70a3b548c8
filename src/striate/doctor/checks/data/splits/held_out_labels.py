"""`data.leak` of full-batch training: does the loss count labels that evaluation holds out?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.splits.overlap.named_parts import FEWEST, counterparts, is_for_training, positions
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import leaf, mapped
from striate.doctor.setup.script_source import ScriptSource
from striate.records import Finding
from striate.wording import several

_STEPS = 3
"""Steps that are compared: with a last layer of zeros, the first loss does not depend on the labels."""
_SAME = 1e-7


def _held_out_labels(evidence: Evidence) -> Iterator[Finding]:
    source, path, batches = evidence.source, evidence.loss_target_path, evidence.train.raw
    targets = None if path is None else leaf(batches[0], path)
    if (
        targets is None or not targets.ndim or source.other_trainings()
    ):  # after folds, the final training may use all samples
        return
    if not all(_equal(leaf(batch, path or ()), targets) for batch in batches):
        return
    for training, name, held in parts_held_out(source, len(targets)):
        measuring = _measures_at(source, name, targets)
        if measuring is None or not _loss_counts(evidence, held):
            continue
        yield HELD_OUT_LABELS.finding(
            severity="error",
            where=f"`{name}`, line {measuring.lineno}",
            measured=f"changing the labels at `{name}` changes the loss of a training step: it counts "
            f"{several(len(held), 'label')} on which `{ast.unparse(measuring)}` measures",
            why="The metric is measured on samples that were trained on: it says nothing about new samples.",
            remedy=f"compute the loss on the training part only: `criterion(outputs[{training}], targets[{training}])`",
        )
        return


def parts_held_out(source: ScriptSource, count: int) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Names of disjoint masks or positions of training and of validation in `count` samples, and the positions of
    validation."""
    named: dict[str, list[ast.AST]] = {}
    for node in source.nodes():
        if isinstance(node, ast.Name | ast.Attribute) or _is_entry(node):
            named.setdefault(ast.unparse(node), []).append(node)
    for text in filter(is_for_training, named):
        chosen = _positions_within(source, named[text], count)
        for other, also in counterparts(text, named) if chosen else ():
            held = _positions_within(source, also, count)
            if len(held) >= FEWEST and not held & chosen:
                yield text, other, torch.tensor(sorted(held))


def _is_entry(node: ast.AST) -> bool:
    """Whether an expression is an entry by name, such as `split["train"]`."""
    return (
        isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
    )


def _positions_within(source: ScriptSource, nodes: list[ast.AST], count: int) -> set[int]:
    """The positions of a mask or an index of `count` samples; empty for other values."""
    value = next((known for node in nodes if (known := source.value(node)) is not None), None)
    found = positions(value)
    if value is None or not found or min(found) < 0 or max(found) >= count:
        return set()
    return found if len(value) == count or "bool" not in str(getattr(value, "dtype", "")) else set()


def _measures_at(source: ScriptSource, name: str, targets: torch.Tensor) -> ast.Subscript | None:
    """The expression that indexes the targets by these positions, perhaps under another name in a function or a
    loop."""
    for node in source.nodes(ast.Subscript):
        if not isinstance(node.ctx, ast.Load):
            continue
        passed_on = isinstance(node.slice, ast.Name) and node.slice.id not in source.names
        if not passed_on and ast.unparse(node.slice) != name:
            continue
        made = source.last_value(node, ast.unparse(node.value))
        parts = chain(ast.walk(node.value), () if made is None else ast.walk(made))
        if any(_equal(source.value(part), targets) for part in parts):
            return node
    return None


def _equal(value: Any, targets: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == targets.dtype and torch.equal(value.cpu(), targets.cpu())


def _loss_counts(evidence: Evidence, held: torch.Tensor) -> bool:
    """Whether the loss changes if the targets at these positions are permuted."""
    batch, path = evidence.train.raw[0], evidence.loss_target_path

    def turned(place: Any, tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        if place == path:
            changed[held] = tensor[held].roll(1, 0)
        return changed

    again = evidence.variant("the first batch alone", Change(), batches=[batch], steps=_STEPS)
    more = evidence.variant("the first batch once more", Change(), batches=[batch], steps=_STEPS)
    other = evidence.variant("labels held out turned", Change(), batches=[mapped(batch, turned)], steps=_STEPS)
    if again.losses != more.losses or len(again.losses) != len(other.losses):
        return False  # the loss differs each time
    pairs = zip(again.losses, other.losses, strict=True)
    return any(abs(one - two) > _SAME * abs(one) for one, two in pairs)


HELD_OUT_LABELS = Check(
    codes=("data.leak",),
    threshold="each step gets all targets, and its loss changes if targets change at positions of validation or test "
    f"({FEWEST} or more) that are not positions of training",
    run=_held_out_labels,
    of_source=True,
)
