"""`data.leak` by code: are variants of samples, overlapping windows, or columns that depend on the targets of all
samples, made before the split? A comparison of samples does not find these."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.splits.overlapping_windows import lists_of_windows, makes_windows
from striate.doctor.checks.data.splits.sample_variants import are_sample_variants
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import CONCATENATIONS, Function, ScriptSource
from striate.doctor.setup.syntax import (
    argument,
    assigned,
    called,
    is_constant,
    names_in,
    nodes_in,
    receiver_of,
    stored_in,
    variable_of,
)
from striate.records import Finding, Remedy

_REPEATED = ("repeat", "tile", "repeat_interleave")
_SUMMED_UP = (
    "mean", "std", "var", "sum", "min", "max", "amin", "amax", "median", "quantile", "len", "shape", "size", "unique",
    "argmax", "argmin", "bincount", "count_nonzero", "where", "nonzero", "flatnonzero", "arange", "range", "randperm",
    "permutation", "zeros", "ones", "empty", "rand", "randn", "full", "zeros_like", "ones_like", "empty_like",
    "full_like", "rand_like", "randn_like", "print", "cov", "corrcoef",
)  # fmt: skip
"""Calls that do not return samples."""
_OVERSAMPLING = ("Over", "SMOTE", "ADASYN")
_MOVED = ("roll", "rot90", "rotate", "flip", "fliplr", "flipud", "shift")
"""Calls that return the same samples, shifted or rotated."""
_SPLITTING = ("train_test_split", "random_split")
_FOLDS = ("KFold", "StratifiedKFold", "ShuffleSplit", "StratifiedShuffleSplit")
_DRAWN = ("randperm", "permutation")


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    variants = {one for tree in source.trees.values() for one in _lists_of_variants(tree)}
    windows = lists_of_windows(source)
    for node in source.nodes(ast.Assign):
        copied, fitted, first = _copied(node, source), _fitted_to_targets(node, source), _names(node.targets[0])[:1]
        made = first if _derives(node.value, variants, whole_only=True) else []
        cut = [
            _names(target)[0]
            for target, value in assigned(node)
            if _names(target) and makes_windows(value, windows, source)
        ]
        named = [(name, _COPIES) for name in (*copied, *made)]
        named += [*((name, _TARGETS) for name in fitted), *((name, _WINDOWS) for name in cut)]
        for name, kind in named:
            split = _split_after(node, name, source)
            if split is not None and (name not in cut or _at_random(split)):
                remedy = _OF_SERIES if kind is _WINDOWS else _split_first(node, split)
                yield _finding(node, split, name, kind, remedy)
                return


_COPIES = (
    "adds copies or variants of samples to `{name}`",
    "Variants of the same sample are on both sides of the split: validation measures what was trained on, and its "
    "metrics are too good.",
)
_TARGETS = (
    "makes columns of `{name}` with the targets of all samples",
    "The columns contain the targets of validation, too: its metrics are too good.",
)
_WINDOWS = (
    "makes `{name}` of windows that overlap",
    "Windows of validation lie between those of training and have most values in common with them: what is measured is "
    "not what comes in the future.",
)
_OF_SERIES = (
    "validate on the end of the series, and leave a gap of one window: `train_test_split(x, y, shuffle=False)`; or "
    "split recordings, and cut windows from each part"
)


def _split_first(node: ast.Assign, split: ast.expr) -> Remedy:
    return Remedy(
        f"Split first: move line {node.lineno} after line {split.lineno}, and apply it to the training part only. "
        "Transform the other parts with what it learned there."
    )


def _at_random(split: ast.expr) -> bool:
    """Whether a split shuffles: not `train_test_split(x, y, shuffle=False)`."""
    words = split.keywords if isinstance(split, ast.Call) else []
    return not any(word.arg == "shuffle" and is_constant(word.value, False) for word in words)


def _finding(node: ast.Assign, split: ast.expr, name: str, kind: tuple[str, str], remedy: str) -> Finding:
    done, why = kind
    return COPIED_BEFORE_SPLIT.finding(
        severity="warning",
        where=f"lines {node.lineno} and {split.lineno}",
        measured=f"line {node.lineno} {done.format(name=name)}, and line {split.lineno}, `{_short_text(split)}`, "
        f"splits `{name}` into parts afterwards",
        why=why,
        remedy=remedy,
    )


def _short_text(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else text[:57] + "…"


def _copied(node: ast.Assign, source: ScriptSource) -> Iterator[str]:
    """Names to which a line assigns samples together with their variants."""
    target, value = node.targets[0], node.value
    several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts)
    pairs = list(zip(target.elts, value.elts, strict=True)) if several else []  # type: ignore[attr-defined]
    if not several:
        pairs = [(target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target, value)]
    for name, made in pairs:
        if not isinstance(name, ast.Name):
            continue
        made = _before_shuffling(made)
        if (isinstance(made, ast.Call) and _multiplies(made, node, source)) or are_sample_variants(made, node, source):
            yield name.id


def _before_shuffling(made: ast.expr) -> ast.expr:
    """The table that an expression shuffles or renumbers: `frame` of `frame.sample(frac=1).reset_index(drop=True)`."""
    while isinstance(made, ast.Call) and called(made) in ("sample", "reset_index"):
        owner = receiver_of(made)
        if owner is None:
            break
        made = owner
    return made


def _fitted_to_targets(node: ast.Assign, source: ScriptSource) -> Iterator[str]:
    """Names of samples whose columns a line selects or computes by their targets: `x =
    SelectKBest(k=20).fit_transform(x, y)`, `frame["city"] = frame.groupby("city")["price"].transform("mean")`, where
    `frame["price"]` is the target."""
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Name) and called(value) == "fit_transform" and isinstance(value, ast.Call):
        owner = receiver_of(value)
        made = source.last_value(node, ast.unparse(owner)) if isinstance(owner, ast.Name) else owner
        uses_targets = len(value.args) > 1 or any(word.arg == "y" for word in value.keywords)
        if uses_targets and made is not None and any(called(part) in _FITTED_TO_TARGETS for part in ast.walk(made)):
            yield target.id
    if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        frame, target_columns = target.value.id, _target_columns(source, node, target.value.id)
        for part in ast.walk(value):
            of_frame = isinstance(part, ast.Subscript) and called(part.value) == "groupby"
            grouped = receiver_of(part.value) if of_frame and isinstance(part.value, ast.Call) else None  # type: ignore[attr-defined]
            if isinstance(grouped, ast.Name) and grouped.id == frame and ast.unparse(part.slice) in target_columns:  # type: ignore[attr-defined]
                yield frame


_FITTED_TO_TARGETS = ("SelectKBest", "SelectPercentile", "SelectFromModel", "SelectFdr", "SelectFpr", "RFE", "RFECV",
               "TargetEncoder", "LinearDiscriminantAnalysis", "PLSRegression")  # fmt: skip
_TARGET_NAME = re.compile(r"^(y|target|label)s?(_|$)")


def _target_columns(source: ScriptSource, line: ast.Assign, frame: str) -> set[str]:
    """Columns of a table that the same function assigns to a name of targets: `y = frame["price"].to_numpy()`; or that
    are the last tensor of a TensorDataset: `TensorDataset(x, torch.tensor(part.price.values))`."""
    given = nodes_in(source.scope_of(line), ast.Assign)
    last = [part for site in source.calls("TensorDataset") for arg in site.node.args[1:][-1:] for part in ast.walk(arg)]
    found = {repr(part.attr) for part in last if isinstance(part, ast.Attribute)}
    found |= {ast.unparse(part.slice) for part in last if isinstance(part, ast.Subscript)}
    return found | {
        ast.unparse(part.slice)
        for one in given
        if any(_TARGET_NAME.search(name) for name in _names(one.targets[0]))
        for part in nodes_in(one.value, ast.Subscript)
        if isinstance(part.value, ast.Name) and part.value.id == frame
    }


def _multiplies(call: ast.Call, line: ast.Assign, source: ScriptSource) -> bool:
    """Whether a call returns samples with their variants: by itself, or as the first result of a function."""
    if called(call) == "fit_resample":
        owner = receiver_of(call)
        made = source.last_value(line, ast.unparse(owner)) if isinstance(owner, ast.Name) else owner
        return made is not None and any(word in ast.unparse(made) for word in _OVERSAMPLING)
    if called(call) in CONCATENATIONS:
        before = list(nodes_in(source.scope_of(line), ast.Assign))
        before = [
            part for part in before if part.lineno < line.lineno and source.scope_of(part) is source.scope_of(line)
        ]
        each = call.args[0] if call.args and _joins_rows(call) else None
        if isinstance(each, ast.ListComp):
            given = each.elt.args[:1] if isinstance(each.elt, ast.Call) else [each.elt]
            names = {name for part in given if (name := variable_of(part))}
            return _are_variants(each, names, names, source)
        wholes = {part.id for part in _concatenated(call) if isinstance(part, ast.Name)}
        oversampled = {name for part in before if _draws_repeatedly(part.value) for name in _names(part.targets[0])}
        return bool(wholes & oversampled) or any(
            _holds_variants(call, {whole}, _derived_names(before, {whole}, whole_only=False)) for whole in wholes
        )
    if called(call) in _REPEATED:
        return _repeats_rows(call)
    functions = source.functions_of(call)
    if len(functions) != 1 or not isinstance(call.func, ast.Name):
        return False
    held = [name for name, value in source.arguments(functions[0], call) if not isinstance(value, ast.Constant)]
    return any(_gives_variants(functions[0], name, source) for name in held)


def _draws_repeatedly(node: ast.AST) -> bool:
    """Whether a call draws samples with replacement: `resample(rare, n_samples=900)` of scikit-learn, which does so by
    default, or `rare.sample(900, replace=True)` of pandas."""
    if not isinstance(node, ast.Call) or called(node) not in ("resample", "sample"):
        return False
    given = {word.arg: word.value for word in node.keywords}
    replace = given.get("replace")
    if replace is None:
        return called(node) == "resample" and "n_samples" in given
    return isinstance(replace, ast.Constant) and replace.value is True


def _repeats_rows(call: ast.Call) -> bool:
    """Whether a call repeats samples, `x.repeat(3, 1, 1, 1)`, not values within each, such as a channel."""
    owner = receiver_of(call)
    parts = list(call.args)
    if called(call) == "repeat" and not call.keywords and len(parts) > 1:
        return not is_constant(parts[0], 1) and all(is_constant(part, 1) for part in parts[1:])
    if called(call) == "tile" and len(parts) == 2 and isinstance(parts[1], ast.Tuple):
        return not is_constant(parts[1].elts[0], 1) and all(is_constant(part, 1) for part in parts[1].elts[1:])
    axis = next((word.value for word in call.keywords if word.arg in ("axis", "dim")), None)
    return owner is not None and is_constant(axis, 0)


def _gives_variants(function: Function, parameter: str, source: ScriptSource) -> bool:
    """Whether the first result of a function contains all samples of `parameter` several times."""
    inside = list(ast.walk(function))
    assigned = [part for part in inside if isinstance(part, ast.Assign)]
    wholes = _derived_names(assigned, {parameter}, whole_only=True)
    derived = _derived_names(assigned, {parameter}, whole_only=False)
    lists = {name for name, one in _appended(inside) if _derives(one, wholes, whole_only=True)}
    for part in inside:
        if not isinstance(part, ast.Return) or part.value is None:
            continue
        given = part.value.elts[0] if isinstance(part.value, ast.Tuple) and part.value.elts else part.value
        named = given.id if isinstance(given, ast.Name) else None
        values = [one.value for one in assigned if named is not None and _names(one.targets[0])[:1] == [named]]
        for made in values or [given]:
            first = made.elts[0] if isinstance(made, ast.Tuple) and made.elts else made
            if not isinstance(first, ast.Call) or called(first) not in CONCATENATIONS or not _joins_rows(first):
                continue
            if first.args and isinstance(first.args[0], ast.Name) and first.args[0].id in lists:
                return True
            each = first.args[0] if first.args else None
            if isinstance(each, ast.ListComp) and _are_variants(each, wholes, derived, source):
                return True
            if _holds_variants(first, wholes, derived):
                return True
    return False


def _are_variants(each: ast.ListComp, wholes: set[str], derived: set[str], source: ScriptSource) -> bool:
    """Whether a list contains all samples several times, shifted or rotated, `[np.roll(x, s, axis=2) for s in shifts]`,
    or as windows that mostly overlap, `[padded[:, i : i + 28] for i in range(5)]`. Other parts of a sample may have
    nothing in common."""
    if any(part.ifs or _derives(part.iter, derived, whole_only=False) for part in each.generators):
        return False
    chosen = {name for one in each.generators for name in names_in(one.target)}
    moved = called(each.elt) in _MOVED or _overlap(each, source)
    return moved and _derives(each.elt, wholes - chosen, whole_only=True)


def _overlap(each: ast.ListComp, source: ScriptSource) -> bool:
    """Whether all windows that a list cuts from the same samples share half of each axis."""
    places = each.elt.slice if isinstance(each.elt, ast.Subscript) else None
    cuts = [part for part in places.elts if isinstance(part, ast.Slice)] if isinstance(places, ast.Tuple) else []
    bounds = [bound for cut in cuts if cut.lower and cut.upper for bound in (cut.lower, cut.upper)]
    asked = ast.ListComp(ast.List(bounds, ast.Load()), each.generators)
    names = names_in(asked)
    known = {name: source.value(value) for name in names if (value := source.last_value(each, name)) is not None}
    windows = source.value(ast.fix_missing_locations(asked), **known) if bounds else None
    columns = list(zip(*windows, strict=True)) if windows else []
    if not all(isinstance(bound, int) for column in columns for bound in column):
        return False
    pairs = zip(columns[::2], columns[1::2], strict=True)
    return bool(columns) and all(2 * (min(end) - max(start)) >= max(end) - min(start) > 0 for start, end in pairs)


def _appended(inside: list[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    """Names of lists, with the expressions that loops such as `for _ in range(copies)` append to them."""
    for loop in (part for part in inside if isinstance(part, ast.For)):
        for part in nodes_in(loop.body):
            if called(part) == "append" and isinstance(part, ast.Call) and part.args:
                owner = receiver_of(part)
                counted = called(loop.iter) == "range" and "len" not in ast.unparse(loop.iter)
                if isinstance(owner, ast.Name) and counted:
                    yield owner.id, part.args[0]


def _lists_of_variants(tree: ast.Module) -> Iterator[str]:
    """Lists to which a loop over samples appends each sample and then its variants, as `for _ in range(5):
    images.append(change(image))`."""
    for outer in nodes_in(tree, ast.For):
        inner = list(nodes_in(outer.body))
        assigned = (name for part in inner if isinstance(part, ast.Assign) for name in stored_in(part))
        samples = stored_in(outer.target) | set(assigned)
        direct = (line.value for line in outer.body if isinstance(line, ast.Expr) and called(line.value) == "append")
        whole = {variable_of(call.func.value) for call in direct if isinstance(call.func, ast.Attribute)}  # type: ignore[attr-defined]
        for name, made in _appended(inner):
            if name in whole and isinstance(made, ast.Call) and names_in(made) & samples:
                yield name


def _holds_variants(call: ast.Call, wholes: set[str], derived: set[str]) -> bool:
    """Whether a call concatenates all samples with others that derive from them, as further rows."""
    items = _concatenated(call) if _joins_rows(call) else []
    whole = [item for item in items if _derives(item, wholes, whole_only=True)]
    return bool(whole) and any(item is not whole[0] and _derives(item, derived, whole_only=False) for item in items)


def _joins_rows(call: ast.Call) -> bool:
    axis = argument(call, 1, "axis") if called(call) != "vstack" else None
    axis = axis if axis is not None else argument(call, 1, "dim")
    return axis is None or (isinstance(axis, ast.Constant) and axis.value in (0, "index"))


def _concatenated(call: ast.Call) -> list[ast.expr]:
    """The expressions that a call concatenates: for `[x] + [x[rare]] * 4` both."""
    return list(_listed(call.args[0])) if call.args else []


def _listed(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.List | ast.Tuple):
        yield from node.elts
    elif isinstance(node, ast.BinOp):
        yield from _listed(node.left)
        yield from _listed(node.right)


def _derived_names(assigned: list[ast.Assign], known: set[str], *, whole_only: bool) -> set[str]:
    """Names of samples, or of values that derive from them."""
    found, before = set(known), set[str]()
    while before != found:
        before = set(found)
        for line in assigned:
            if _derives(line.value, found, whole_only=whole_only):
                found |= set(_names(line.targets[0])[:1])
    return found


def _names(target: ast.AST) -> list[str]:
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def _derives(node: ast.expr, names: set[str], *, whole_only: bool) -> bool:
    """Whether an expression derives from samples: from all (`whole_only`) or from some."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Subscript):
        first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
        every = isinstance(first, ast.Slice) and first.lower is None and first.upper is None
        every = every or (isinstance(first, ast.Constant) and (first.value is ... or isinstance(first.value, str)))
        every = every or (isinstance(first, ast.List) and all(isinstance(e, ast.Constant) for e in first.elts))
        return (every or not whole_only) and _derives(node.value, names, whole_only=whole_only)
    if isinstance(node, ast.BinOp):
        return any(_derives(part, names, whole_only=whole_only) for part in (node.left, node.right))
    if isinstance(node, ast.Attribute) and node.attr in ("values", "T"):
        return _derives(node.value, names, whole_only=whole_only)
    if isinstance(node, ast.Call) and called(node) not in _SUMMED_UP:
        owner = receiver_of(node)
        parts = [*node.args[:1], *([owner] if owner is not None else [])]
        return any(_derives(part, names, whole_only=whole_only) for part in parts)
    return False


def _split_after(line: ast.Assign, name: str, source: ScriptSource) -> ast.expr | None:
    """The expression that splits samples at random later in the same function, before their name is assigned another
    value."""
    scope = source.scope_of(line)
    inside = [part for part in ast.walk(scope) if part is not scope and source.scope_of(part) is scope]
    later = [part for part in inside if getattr(part, "lineno", 0) > (line.end_lineno or line.lineno)]
    reassigned = (part for part in later if isinstance(part, ast.Assign) and name in _names(part.targets[0]))
    end = min((part.lineno for part in reassigned if not _derives(part.value, {name}, whole_only=True)), default=10**9)
    later = [part for part in later if getattr(part, "lineno", 0) <= end]
    known = {name} | {
        made
        for part in later
        if isinstance(part, ast.Assign) and called(part.value).endswith("Dataset") and _takes_first(part.value, {name})
        for made in _names(part.targets[0])
    }
    assigned = [part for part in later if isinstance(part, ast.Assign)]
    for call in (part for part in later if isinstance(part, ast.Call)):
        if called(call) in _SPLITTING and call.args:
            if _takes_first(call, known) or _takes_first(_argument(call), known):
                return call
            before = [part for part in assigned if part.lineno < call.lineno]
            of_all = _derived_names(before, {name}, whole_only=True)
            if _derives(call.args[0], of_all, whole_only=True):
                return call
        owner = receiver_of(call)
        if any(_halved(list(ast.walk(function)), given, source) for function, given in _passed_to(call, name, source)):
            return call
        if called(call) == "split" and _takes_first(call, {name}) and owner is not None:
            made = source.last_value(call, ast.unparse(owner)) if isinstance(owner, ast.Name) else owner
            if made is not None and called(made) in _FOLDS:
                return call
    return _halved(later, name, source)


def _passed_to(call: ast.Call, name: str, source: ScriptSource) -> Iterator[tuple[Function, str]]:
    """The function of the script that a call passes samples to, and the name of its parameter."""
    functions = source.functions_of(call) if isinstance(call.func, ast.Name) else []
    for function in functions if len(functions) == 1 else ():
        for given, value in source.arguments(function, call):
            if isinstance(value, ast.Name) and value.id == name:
                yield function, given


def _argument(call: ast.Call) -> ast.AST:
    return call.args[0] if call.args else call


def _takes_first(call: ast.AST, names: set[str]) -> bool:
    first = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return isinstance(first, ast.Name) and first.id in names


def _halved(later: list[ast.AST], name: str, source: ScriptSource) -> ast.expr | None:
    """`x[order[:half]]`, if `x[order[half:]]` exists, too, for a random order; both index arrays may have names."""
    ends: dict[tuple[str, bool], ast.expr] = {}
    for part in later:
        if not isinstance(part, ast.Subscript) or not isinstance(part.value, ast.Name) or part.value.id != name:
            continue
        index: ast.expr | None = part.slice
        if isinstance(index, ast.Name):
            index = _slice_named(index, later)
        if isinstance(index, ast.Subscript) and isinstance(index.slice, ast.Slice):
            order, upper = ast.unparse(index.value), index.slice.lower is None
            made = source.last_value(part, order)
            drawn = made is not None and any(called(one) in _DRAWN for one in ast.walk(made))
            if drawn and (order, not upper) in ends:
                return ends[order, not upper]
            if drawn:
                ends.setdefault((order, upper), part)
    return None


def _slice_named(index: ast.Name, later: list[ast.AST]) -> ast.expr | None:
    """The value of `train_ids` after `train_ids, val_ids = order[:n], order[n:]`."""
    for part in later:
        if isinstance(part, ast.Assign) and index.id in (names := _names(part.targets[0])):
            values = part.value.elts if isinstance(part.value, ast.Tuple) else [part.value]
            return values[names.index(index.id)] if len(values) == len(names) else None
    return None


COPIED_BEFORE_SPLIT = Check(
    codes=("data.leak",),
    threshold="samples joined with copies or variants of them, or columns made with the targets of all, and a "
    "random split afterwards",
    run=_run,
    of_source=True,
)
