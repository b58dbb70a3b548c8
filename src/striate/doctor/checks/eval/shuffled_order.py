"""`eval.wrong-count` of predictions and labels in different orders: predictions from one pass over a shuffling loader,
and labels from its data set or from another pass.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import parts
from striate.doctor.setup.script_source import CONCATENATIONS, ScriptSource
from striate.doctor.setup.syntax import assigned, called, is_constant, is_operation, names_in, nodes_in, receiver_of
from striate.models.preserved_state import same_random_state
from striate.records import Finding

_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_GATHERING = (*CONCATENATIONS, "stack", "append", "extend")
_SAMPLE_BY_SAMPLE = (
    *CONCATENATIONS, "stack", "array", "asarray", "tensor", "as_tensor", "from_numpy", "numpy", "cpu", "detach",
    "to", "long", "float", "int", "tolist", "list", "argmax", "squeeze", "flatten", "astype", "normalize", "sigmoid",
    "softmax",
)  # fmt: skip
_BESIDE_EACH_OTHER = (ast.Call, ast.Compare, ast.BinOp)
_ORDERLESS = ("print", "hist", "ks_2samp", "wasserstein_distance", "mannwhitneyu", "ttest_ind")
"""Functions that show or compare distributions, not pairs of values."""
_ROWS = 48
"""Samples of which the targets are compared."""


@dataclass(frozen=True)
class _Gathered:
    """Values, one for each sample, that were gathered in a pass over a shuffling loader."""

    data_pass: ast.AST
    """The loop, comprehension or call that makes the pass."""
    text: str
    """Source of the loader."""
    loader: DataLoader[Any]
    used: frozenset[int]
    """Places of the parts of its batches that were used; empty if unknown."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    known: dict[ast.AST, dict[str, _Gathered]] = {}
    for node in source.nodes(*_BESIDE_EACH_OTHER):
        sides = _sides(node)
        if len(sides) < 2 or called(node) in _ORDERLESS:
            continue
        scope = source.scope_of(node)
        if scope not in known:
            known[scope] = _gathered_in(scope, source)
        for one, other in permutations([_source_of(side, source) for side in sides] if known[scope] else (), 2):
            found = known[scope].get(one.id) if isinstance(one, ast.Name) else None
            if found is None:
                continue
            again = known[scope].get(other.id) if isinstance(other, ast.Name) else None
            own = _in_its_order(other, found.loader, source) or _has_its_targets(other, found.loader, source)
            paired = _of_pairs(node, source) or _pairs_inside(node, one, other, source)
            own = own or (paired and _one_for_each(other, found.loader, source))
            if own or (again is not None and _in_two_passes(found, again)):
                yield _finding(node, one, other, found.text, own=own)
                return


def _in_two_passes(one: _Gathered, other: _Gathered) -> bool:
    """Whether values were gathered in two passes over one loader, from different parts of its batches."""
    again = one.loader is other.loader and one.data_pass is not other.data_pass
    return again and bool(one.used) and bool(other.used) and one.used.isdisjoint(other.used)


def _finding(node: ast.expr, one: ast.expr, other: ast.expr, loader: str, *, own: bool) -> Finding:
    name, text = ast.unparse(one), ast.unparse(other)
    return SHUFFLED_ORDER.finding(
        severity="error",
        where=f"line {node.lineno}",
        measured=f"`{name}` has the samples in the order of one pass over `{loader}`, which shuffles; `{text}`, which "
        f"is combined with it, has them in {'the order of the data set' if own else 'that of another pass'}",
        why="Each sample gets the label of another one, so the metric is at chance whatever was learned.",
        remedy=f"keep the labels of the same pass, `for x, y in {loader}`; or create `{loader}` with `shuffle=False`",
    )


def _sides(node: ast.expr) -> Sequence[ast.expr]:
    """The operands that an expression combines: arguments, or sides of a comparison or a difference."""
    if isinstance(node, ast.Call):
        return [*node.args, *(word.value for word in node.keywords)]
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    return [node.left, node.right] if is_operation(node, ast.Sub) else []


def _source_of(node: ast.expr, source: ScriptSource) -> ast.expr:
    """The expression whose samples, in its order, another expression holds: `y` for `torch.tensor(y).cpu()`."""
    while called(node) in _SAMPLE_BY_SAMPLE and isinstance(node, ast.Call):
        owner = receiver_of(node)
        if owner is None or isinstance(source.value(owner), types.ModuleType):
            owner = node.args[0] if node.args else None
        if owner is None:
            break
        node = owner
    if (column := _column_given(node, source)) is not None:
        return _source_of(column, source)
    if isinstance(node, ast.Name) and isinstance(made := source.last_value(node, node.id), ast.Attribute):
        return made
    return node


def _column_given(node: ast.expr, source: ScriptSource) -> ast.expr | None:
    """What a column of a table was made of: `preds` for `table.label` after `table = pd.DataFrame({"label": preds})` or
    `table["label"] = preds`; None where that is unknown."""
    name: object
    if isinstance(node, ast.Attribute):
        owner, name = node.value, node.attr
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        owner, name = node.value, node.slice.value
    else:
        return None
    if not isinstance(owner, ast.Name):
        return None
    table = source.last_value(node, owner.id)
    columns = table.args[0] if isinstance(table, ast.Call) and called(table) == "DataFrame" and table.args else None
    given = zip(columns.keys, columns.values, strict=True) if isinstance(columns, ast.Dict) else ()
    made = next((value for key, value in given if key is not None and is_constant(key, name)), None)
    return source.last_value(node, f"{owner.id}[{name!r}]") or made


def _in_its_order(node: ast.expr, loader: DataLoader[Any], source: ScriptSource) -> bool:
    """Whether an expression is a column of the loader's data set, one value for each sample."""
    if not isinstance(node, ast.Attribute) or source.value(node.value) is not loader.dataset:
        return False
    column = source.value(node)
    with suppress(TypeError):  # it has no length
        return getattr(column, "ndim", 1) == 1 and len(column) == len(loader.dataset)
    return False


def _has_its_targets(node: ast.expr, loader: DataLoader[Any], source: ScriptSource) -> bool:
    """Whether an expression's values equal the targets of a loader's data set in its order, perhaps in another unit."""
    if _stored_again(node, source):
        return False  # it may hold the labels of the pass by now
    value, data = source.value(node), cast("Any", loader.dataset)
    try:
        if isinstance(value, str | dict) or len(value) != len(data) or len(value) < _ROWS:
            return False
        rows = torch.linspace(0, len(value) - 1, _ROWS).long().tolist()
        with same_random_state():
            targets = [torch.as_tensor(parts(data[row])[1]).flatten().double() for row in rows]
        values = [torch.as_tensor(value[row]).flatten().double() for row in rows]
        one, other = torch.stack(values), torch.stack(targets)
    except Exception:  # values and a data set of the user's
        return False
    if one.shape != other.shape or not bool((one.std(0) > 0).any()):
        return False
    one, other = ((part - part.mean(0)) / part.std(0).clamp_min(1e-12) for part in (one, other))
    return torch.allclose(one, other, atol=1e-3)


def _of_pairs(node: ast.expr, source: ScriptSource) -> bool:
    """Whether an expression compares values pair by pair: with an operator, or a metric of scikit-learn."""
    if not isinstance(node, ast.Call):
        return True
    module = str(getattr(source.value(node.func), "__module__", ""))
    return module.startswith(("sklearn.metrics._classification", "sklearn.metrics._regression"))


def _pairs_inside(node: ast.expr, one: ast.expr, other: ast.expr, source: ScriptSource) -> bool:
    """Whether an expression calls a function of the script that compares two of its arguments pair by pair."""
    functions = source.functions_of(node) if isinstance(node, ast.Call) else []
    for function in functions if len(functions) == 1 else ():
        given = {name: _source_of(value, source) for name, value in source.arguments(function, node)}  # type: ignore[arg-type]
        names = {name for name, value in given.items() if ast.unparse(value) in map(ast.unparse, (one, other))}
        for inner in ast.walk(function):
            if isinstance(inner, _BESIDE_EACH_OTHER) and _of_pairs(inner, source):
                compared = {_parameter_of(side, source) for side in _sides(inner)} & names
                if len({ast.unparse(given[name]) for name in compared}) == 2:
                    return True
    return False


def _parameter_of(node: ast.expr, source: ScriptSource) -> str:
    """The variable whose samples, in its order, an expression holds, through a variable computed from it."""
    node = _source_of(node, source)
    made = source.last_value(node, node.id) if isinstance(node, ast.Name) else None
    node = node if made is None else _source_of(made, source)
    return node.id if isinstance(node, ast.Name) else ""


def _one_for_each(node: ast.expr, loader: DataLoader[Any], source: ScriptSource) -> bool:
    """Whether an expression has one value for each sample of a data set without targets: they can only be in its
    order."""
    value, data = None if _stored_again(node, source) else source.value(node), cast("Any", loader.dataset)
    with suppress(Exception), same_random_state():  # values and a data set of the user's
        alone = isinstance(data[0], torch.Tensor) and data[0].ndim > 0
        return alone and isinstance(value, torch.Tensor | np.ndarray | list) and len(value) == len(data) >= _ROWS
    return False


def _stored_again(node: ast.expr, source: ScriptSource) -> bool:
    """Whether a variable of an expression is assigned more than once in its function."""
    scope = source.scope_of(node)
    stored = [part.id for part in nodes_in(scope, ast.Name) if isinstance(part.ctx, ast.Store)]
    return any(stored.count(part.id) > 1 for part in nodes_in(node, ast.Name))


def _gathered_in(scope: ast.AST, source: ScriptSource) -> dict[str, _Gathered]:
    """Variables of a function that hold values gathered in a pass over a shuffling loader, and nothing else."""
    found: dict[str, _Gathered] = {}
    loops: dict[str, ast.AST] = {}
    otherwise: set[str] = set()
    parts = [part for part in ast.walk(scope) if part is not scope and source.scope_of(part) is scope]
    parts.sort(key=lambda part: getattr(part, "lineno", 0))
    for call in (part for part in parts if isinstance(part, ast.Call) and called(part) in ("append", "extend")):
        owner, loop = receiver_of(call), next(iter(source.loops_of(call)), None)
        if not isinstance(owner, ast.Name) or loop is None:
            continue
        numbers = any(called(inner) == "item" for inner in ast.walk(call))  # of whole batches
        own = _pass(loop, loop.iter, loop.target, call.args, source) if isinstance(loop, ast.For) else None
        if own is None or numbers or loops.setdefault(owner.id, loop) is not loop:
            otherwise.add(owner.id)
        else:
            found[owner.id] = own
    for target, value in (pair for part in parts for pair in assigned(part)):
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        if is_operation(value, ast.Div, ast.Mult):  # of a mean over folds
            value = value.left
        made = _source_of(value, source)
        own = found.get(made.id) if isinstance(made, ast.Name) else _passed(value, source) or _passed(made, source)
        empty = (isinstance(value, ast.List) and not value.elts) or called(value) in ("zeros", "zeros_like")
        for name in (part.id for part in names if isinstance(part, ast.Name) and not empty):
            if own is None:
                otherwise.add(name)  # its order may have changed
            else:
                found[name] = own
    return {name: one for name, one in found.items() if name not in otherwise}


def _passed(value: ast.expr, source: ScriptSource) -> _Gathered | None:
    """The values gathered by `torch.cat([network(x) for x, y in loader])`, or by a function that loops over a loader;
    None for other expressions."""
    for part in ast.walk(value) if called(value) in _SAMPLE_BY_SAMPLE or isinstance(value, ast.ListComp) else ():
        if isinstance(part, ast.ListComp | ast.GeneratorExp) and len(part.generators) == 1:
            own = part.generators[0]
            return _pass(own, own.iter, own.target, [part.elt], source)
    functions = source.functions_of(value) if isinstance(value, ast.Call) else []
    for function in functions if len(functions) == 1 else ():
        inside = list(ast.walk(function))
        stores = (part for part in inside if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store))
        if not any(called(part) in _GATHERING for part in inside) or any(stores):
            continue
        for name, expression in source.arguments(function, value):  # type: ignore[arg-type]
            loader = source.value(expression)
            for part in inside if _shuffles(loader) else ():
                if (
                    isinstance(part, ast.For | ast.comprehension)
                    and ast.unparse(_plain(part.iter, part.target)[0]) == name
                ):
                    around = part.body if isinstance(part, ast.For) else [source.parent(part)]
                    used = _used(part.iter, part.target, [one for one in around if one is not None])
                    return _Gathered(value, ast.unparse(expression), loader, used)
    return None


def _pass(
    data_pass: ast.AST, iterable: ast.expr, target: ast.expr, parts: Sequence[ast.AST], source: ScriptSource
) -> _Gathered | None:
    """The values that some nodes gather in a pass over a shuffling loader; None where the loader does not shuffle."""
    expression = _plain(iterable, target)[0]
    loader = source.value(expression)
    used = _used(iterable, target, parts)
    return _Gathered(data_pass, ast.unparse(expression), loader, used) if _shuffles(loader) else None


def _shuffles(loader: Any) -> bool:
    return isinstance(loader, DataLoader) and isinstance(loader.sampler, _SHUFFLING)


def _plain(iterable: ast.expr, target: ast.expr) -> tuple[ast.expr, ast.expr]:
    """The loader and the batch of a loop, without `enumerate` or a progress bar around the loader."""
    while isinstance(iterable, ast.Call) and iterable.args:
        if called(iterable) == "enumerate" and isinstance(target, ast.Tuple) and len(target.elts) == 2:
            target = target.elts[1]
        iterable = iterable.args[0]
    return iterable, target


def _used(iterable: ast.expr, target: ast.expr, parts: Sequence[ast.AST]) -> frozenset[int]:
    batch = _plain(iterable, target)[1]
    columns = batch.elts if isinstance(batch, ast.Tuple) else []
    read = {node.id for node in nodes_in(parts, ast.Name) if type(node.ctx) is ast.Load}
    return frozenset(place for place, column in enumerate(columns) if names_in(column) & read)


SHUFFLED_ORDER = Check(
    codes=("eval.wrong-count",),
    threshold="values from one pass over a shuffling loader are combined with a column of its data set, with values "
    "that equal the targets of the data set in its order, with one value for each sample of a data set without "
    "targets, or with the labels of another pass",
    run=_run,
    of_source=True,
)
