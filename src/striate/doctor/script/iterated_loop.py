"""Loops that take their batches from iterators: with `next`, from several at once, or by sample indices."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch.utils.data import DataLoader, SequentialSampler

from striate.doctor.script.loop_syntax import (
    are_batches,
    counts,
    name_of,
    number_for,
    tuple_with_number,
    unwrapped,
    value_of,
    walk,
)
from striate.doctor.setup.recorded_iterators import batches_of_iterator, is_read_once
from striate.doctor.setup.syntax import called, nodes_in, receiver_of
from striate.observe.tensors import tensors_in

_ITERATOR = "__striate_iterator_"
_KINDS = (list, tuple, dict)
_MOST, _SEVERAL = 20_000, 3
"""Most batches of sample indices, which a generator may yield endlessly; fewest batches that are several."""


class FirstBatches:
    """The first batch of a loader that keeps its order, again and again: each pass of the loop begins the loader
    anew."""

    repeats_samples = True
    """A sample comes several times in an epoch."""

    def __init__(self, loader: Any) -> None:
        self.first_of = len(loader)
        """How many batches the loader has."""
        self.loader = loader

    def __len__(self) -> int:
        return self.first_of

    def __iter__(self) -> Iterator[Any]:
        return (next(iter(self.loader)) for _ in range(self.first_of))


def zipped_batches(
    loop: ast.For | ast.While, names: dict[str, Any]
) -> tuple[Any, list[ast.stmt], dict[str, Any]] | None:
    """For a loop `for one, other in zip(first, second)`: the first iterable of batches, a body that takes items of the
    others from iterators, and these iterators by name. None for other loops."""
    inner, numbered = unwrapped(loop.iter) if isinstance(loop, ast.For) else (None, False)
    if not isinstance(loop, ast.For) or called(inner or loop) != "zip" or not isinstance(inner, ast.Call):
        return None
    target = loop.target.elts[-1] if numbered and isinstance(loop.target, ast.Tuple) else loop.target
    if not isinstance(target, ast.Tuple | ast.List) or len(target.elts) != len(inner.args):
        return None
    together = _parts_of_batches(inner.args, names)
    if together is not None:
        assigned = ast.Assign([loop.target], tuple_with_number() if numbered else name_of("__batch__"))
        return together, [assigned, *loop.body], {}
    batches, iterators = None, dict[str, Any]()
    given: list[ast.expr] = []
    for number, argument in enumerate(inner.args):
        if counts(argument):
            given.append(name_of("__number__"))
            continue
        plain, own = unwrapped(argument)
        value = value_of(plain, names) if batches is None and not own else None
        if is_read_once(value):
            value = batches_of_iterator(value)
        if batches is None and are_batches(value):
            batches = value
            given.append(name_of("__batch__"))
            continue
        try:
            iterators[f"{_ITERATOR}{number}"] = _endless(value_of(argument, names))
        except TypeError:
            return None
        given.append(ast.Call(name_of("next"), [name_of(f"{_ITERATOR}{number}")], []))
    if batches is None:
        return None
    pair: ast.expr = ast.Tuple(given, ast.Load())
    assigned = ast.Assign([loop.target], ast.Tuple([name_of("__number__"), pair], ast.Load()) if numbered else pair)
    return batches, [assigned, *loop.body], iterators


def _parts_of_batches(zipped: Sequence[ast.expr], names: dict[str, Any]) -> list[tuple[torch.Tensor, ...]] | None:
    """The batches of `zip(x.split(32), y.split(32))`, whose parts have as many samples each; None for others."""
    values = list[Any]()
    for argument in zipped:
        values.append(value_of(argument, names))
        if not isinstance(values[-1], tuple | list) or len(values[-1]) != len(values[0]) or not values[0]:
            return None
    together = list(zip(*values, strict=True))
    tensors = all(isinstance(part, torch.Tensor) and part.ndim > 0 for parts in together for part in parts)
    return together if tensors and all(len({len(part) for part in parts}) == 1 for parts in together) else None


def zipped_count(loop: ast.For | ast.While, names: dict[str, Any]) -> int | None:
    """The most passes of `for step, batch in zip(range(240), loader)`, by its shortest `range`; None without one."""
    together = unwrapped(loop.iter)[0] if isinstance(loop, ast.For) else None
    values = (value_of(part, names) for part in together.args) if isinstance(together, ast.Call) else ()
    return min((len(value) for value in values if isinstance(value, range)), default=None)


def _endless(values: Any) -> Iterator[Any]:
    """An iterator that repeats the values endlessly; an iterator is returned unchanged. Raises TypeError for values
    that cannot be iterated over."""
    once: Iterator[Any] = iter(values)
    return once if once is values else (value for _ in itertools.count() for value in values)


def batches_by_next(
    loop: ast.For | ast.While, names: dict[str, Any]
) -> tuple[Any, list[ast.stmt], object, dict[str, Any]] | None:
    """For a loop with `batch = next(batches)`: the iterable of batches, a body with the batch in place of the call, the
    iterator, and by name, an iterator of the sample indices that the loop itself iterates over. The first such call
    counts. None where the body takes tensors from no iterator."""
    for statement in sorted(loop.body, key=lambda part: isinstance(part, ast.If)):  # validation may be in an `if`
        for node in walk(statement):
            iterator = value_of(node.args[0], names) if isinstance(node, ast.expr) and _asks_next(node) else None
            if not isinstance(node, ast.Call) or not is_read_once(iterator):
                continue
            batches = batches_of_iterator(iterator)
            if batches is not None:
                if _begins_anew(node.args[0], loop) and _keeps_order(batches):
                    batches = FirstBatches(batches)
                given = _Given(ast.unparse(node.args[0]))
                iterators, counted = dict[str, Any](), list[ast.stmt]()
                if isinstance(loop, ast.For):
                    value = number_for(loop.target)
                    if count_index_batches(loop, names):
                        iterators = {_ITERATOR: _endless(list(value_of(loop.iter, names)))}  # an `enumerate` ends once
                        value = ast.Call(name_of("next"), [name_of(_ITERATOR)], [])
                    counted = [ast.Assign([loop.target], value)]
                return (
                    batches,
                    [*counted, *(given.visit(copy.deepcopy(part)) for part in loop.body)],
                    iterator,
                    iterators,
                )
    return None


def _begins_anew(given: ast.expr, loop: ast.For | ast.While) -> bool:
    """Whether each pass of a loop makes the iterator: `next(iter(loader))`, or `it = iter(loader)` and `next(it)`."""
    made = {ast.unparse(t) for one in loop.body if isinstance(one, ast.Assign) and called(one.value) == "iter"
            for t in one.targets}  # fmt: skip
    return called(given) == "iter" or ast.unparse(given) in made


def _keeps_order(batches: Any) -> bool:
    """Whether several batches come in the same order in each pass."""
    if isinstance(batches, list):
        return len(batches) > 1
    ordered = isinstance(batches, DataLoader) and isinstance(batches.sampler, SequentialSampler)
    return ordered and batches.batch_sampler is not None and len(batches) > 1


def _asks_next(node: ast.expr) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and called(node) == "next" and isinstance(node.func, ast.Name) and bool(node.args)


def grouped_batches(loop: ast.For | ast.While, names: dict[str, Any]) -> tuple[Any, list[ast.stmt]] | None:
    """For `for start in range(0, len(batches), 4): for x, y in batches[start : start + 4]`: the batches, and a body in
    which a group has one batch. None for other loops."""
    for node in (node for statement in loop.body for node in walk(statement)):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            batches = value_of(node.value, names)
            if not are_batches(batches) or not isinstance(batches, list) or not isinstance(batches[0], _KINDS):
                continue
            if not _is_sample(batches[0]):
                group = _Group(ast.unparse(node))
                counted = [ast.Assign([loop.target], number_for(loop.target))] if isinstance(loop, ast.For) else []
                return batches, [*counted, *(group.visit(copy.deepcopy(part)) for part in loop.body)]
    return None


def _is_sample(batch: Any) -> bool:
    """Whether an item is a sample with a single number: `samples[i : i + 32]` is a batch then, not a group of
    batches."""
    held = batch.values() if isinstance(batch, dict) else batch
    return any(isinstance(part, int | float | np.number) for part in held) or any(
        not tensor.ndim for tensor in tensors_in(batch)
    )


class _Group(ast.NodeTransformer):
    """Replaces a slice of the list of batches by a list of the step's batch."""

    def __init__(self, part: str) -> None:
        self.part = part

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if ast.unparse(node) == self.part:
            return ast.copy_location(ast.List([name_of("__batch__")], ast.Load()), node)
        return node


class _Given(ast.NodeTransformer):
    """Replaces the call of `next` with an iterator by the step's batch."""

    def __init__(self, iterator: str) -> None:
        self.iterator = iterator

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if _asks_next(node) and ast.unparse(node.args[0]) == self.iterator:
            return ast.copy_location(name_of("__batch__"), node)
        return node


def count_index_batches(loop: ast.For | ast.While, names: dict[str, Any]) -> int:
    """The number of batches of sample indices that a loop iterates over, as `for index in order.split(32)`, where its
    body only indexes samples with them; 0 for other loops."""
    if not isinstance(loop, ast.For) or counts(loop.iter):
        return 0
    inner, numbered = unwrapped(loop.iter)
    target = loop.target.elts[-1] if numbered and isinstance(loop.target, ast.Tuple) else loop.target
    return len(_index_batches(inner, names)) if isinstance(target, ast.Name) and _only_takes(loop, target.id) else 0


def _index_batches(node: ast.expr, names: dict[str, Any]) -> list[Any]:
    """The batches of sample indices that an expression yields, as `torch.randperm(n).view(-1, 32)` or a generator;
    empty where it yields something else, or would consume an iterator of the script."""
    values = value_of(node, names)
    if is_read_once(values) and not isinstance(node, ast.Call):
        return []
    try:
        given = iter(values)
        first = next(given)
        return [first, *itertools.islice(given, _MOST)] if are_indices(first) else []
    except Exception:  # in the user's code, or without a first batch
        return []


def indices_by_next(loop: ast.For | ast.While, names: dict[str, Any]) -> dict[str, Any] | None:
    """For a loop that indexes samples with `index = next(batches)`: the iterator by its name, made endless; None for
    other loops."""
    for node in (node for statement in loop.body for node in walk(statement)):
        if not isinstance(node, ast.Assign) or not _asks_next(node.value):
            continue
        target, iterator = node.targets[0], node.value.args[0]
        if not isinstance(target, ast.Name) or not isinstance(iterator, ast.Name) or not _only_takes(loop, target.id):
            continue
        if are_indices(names.get(target.id)):
            batches = batches_of_iterator(names.get(iterator.id))
            return None if batches is None else {iterator.id: _endless(batches)}
    return None


def are_indices(values: Any) -> bool:
    """Whether they may be the sample indices of a batch: a tensor or array (N,) of integers."""
    if isinstance(values, torch.Tensor):
        return values.ndim == 1 and not (values.is_floating_point() or values.dtype == torch.bool)
    return isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu"


def _only_takes(loop: ast.For | ast.While, name: str) -> bool:
    """Whether a loop's body indexes samples with a variable, and uses it for nothing else but its length, and other
    orders of it, `ids[torch.randperm(len(ids))]`."""
    nodes = list(nodes_in(loop.body))
    taking = [node.slice for node in nodes if isinstance(node, ast.Subscript)]
    reordered = {id(node.value) for node in nodes if isinstance(node, ast.Subscript)}
    measuring = [
        node
        for node in nodes
        if (isinstance(node, ast.Call) and called(node) in ("len", "size", "numel"))
        or (isinstance(node, ast.Attribute) and node.attr in ("shape", "size"))
    ]
    inside = {id(part) for part in nodes_in(taking)} | _listed(nodes, name)
    fine = inside | reordered | {id(part) for part in nodes_in(measuring)}
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)]
    return any(id(node) in inside for node in uses) and all(id(node) in fine for node in uses)


def _listed(nodes: list[ast.AST], numbers: str) -> set[int]:
    """The ids of the nodes `index` in `[samples[i] for i in index.tolist()]`."""
    found: set[int] = set()
    for node in nodes:
        if not isinstance(node, ast.ListComp | ast.GeneratorExp):
            continue
        taken = {part.slice.id for part in nodes_in(node.elt, ast.Subscript) if isinstance(part.slice, ast.Name)}
        for part in node.generators:
            given = part.iter
            listed = receiver_of(given) if isinstance(given, ast.Call) and called(given) == "tolist" else given
            if isinstance(part.target, ast.Name) and part.target.id in taken and isinstance(listed, ast.Name):
                found |= {id(listed)} if listed.id == numbers else set()
    return found


def same_indices(loop: ast.For, names: dict[str, Any]) -> int:
    """The number of batches of a pass, where all have the same sample indices, and the next pass has others; 0 where
    they differ, where there are few, or where each pass has the same, as with full-batch training."""
    given = unwrapped(loop.iter)[0]
    values = _index_batches(given, names)
    if len(values) < _SEVERAL or not all(np.array_equal(part, values[0]) for part in values):
        return 0
    others = _index_batches(given, names)
    return len(values) if others and set(others[0].tolist()) != set(values[0].tolist()) else 0


def indices_like(loop: ast.For, names: dict[str, Any]) -> Any:
    """As many sample indices as the batches of a loop have together, in order, as the same type."""
    values = _index_batches(unwrapped(loop.iter)[0], names)
    count = sum(len(part) for part in values)
    return torch.arange(count) if isinstance(values[0], torch.Tensor) else np.arange(count)


def values_of(loop: ast.For | ast.While, names: dict[str, Any]) -> Iterator[Any]:
    """The values of a loop's target: batches of sample indices, or starts of batches, repeated endlessly; other values
    once, then the numbers that follow."""
    if isinstance(loop, ast.For):
        steps = value_of(loop.iter, names)
        again = count_index_batches(loop, names) or (isinstance(steps, range) and abs(steps.step) > 1 and len(steps))
        passes: Iterable[int] = itertools.count() if again else range(1)
        given = 0
        for _ in passes:
            values = value_of(loop.iter, names)
            for value in () if values is None else values:
                given += 1
                yield value
        yield from itertools.count(given + 1)
    yield from itertools.count(1)
