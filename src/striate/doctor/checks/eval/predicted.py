"""`eval.wrong-axis` and `eval.threshold`: how predictions are read from outputs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.targets.keypoints import points_are_across_first
from striate.doctor.checks.eval.decoded_peaks import rows_before_columns
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import (
    ONE_BEHIND_THE_OTHER,
    ScriptSource,
    Site,
    argument,
    assigned,
    called,
    last_name,
    receiver_of,
)
from striate.records import Finding

_ALONG = {"argmax": 0, "max": 0, "softmax": 0, "log_softmax": 0, "topk": 1}
_DEEPEST = 3
"""Functions within functions."""
_SQUASHING = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "expit": (0.0, 1.0)}


def _axes(evidence: Evidence) -> Iterator[Finding]:
    site = next(rows_before_columns(evidence.source), None)
    if site is not None and points_are_across_first(evidence):
        yield WRONG_AXIS.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` gives the row and column of a peak, but the points of the data are (x, y)",
            limit="the row of a peak before its column, though points are (x, y)",
            why="It compares x with y: the metric is wrong, whatever the network predicts.",
            remedy="put the column first: `torch.stack([index % width, index // width], -1)`",
        )
        return
    site = next(_neighbors_along_rows(evidence.source), None)
    if site is not None:
        yield WRONG_AXIS.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` runs along axis 0: it returns k rows, but their labels are compared with a column",
            limit="nearest neighbors along axis 0 of scores between all samples, whose labels are compared with a "
            "column",
            why="Each label is compared with the neighbors of all other samples: one of them is right by chance.",
            remedy="take the nearest of each row, along axis 1: `scores.topk(k, dim=1)`",
        )
        return
    yield from _wrong_axis(evidence)


def _neighbors_along_rows(source: ScriptSource) -> Iterator[Site]:
    """The k best along axis 0 of scores of all with all, (k, M), whose labels are compared with a column (N, 1):
    `labels[(a @ b.t()).topk(1, dim=0).indices] == wanted[:, None]`."""
    for site in source.calls("topk"):
        axis = argument(site.node, max(len(site.node.args) - 1, 0), "dim")
        owner = receiver_of(site.node)
        scores = source.last_value(site.node, owner.id) if isinstance(owner, ast.Name) else owner
        text = "" if scores is None else ast.unparse(scores)
        if axis is None or source.value(axis) != 0 or not _OF_ALL_WITH_ALL.search(text):
            continue
        scope, chosen = source.scope_of(site.node), source.parent(site.node)
        values = [(ast.unparse(to), value) for part in ast.walk(scope) for to, value in assigned(part)]
        names = {name for name, value in values if value is chosen} - {n for n, value in values if value is not chosen}
        for node in ast.walk(scope):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            found = (isinstance(side, ast.Subscript) and ast.unparse(side.slice) in names for side in sides)
            if any(found) and any(map(_is_column, sides)):
                yield site


_OF_ALL_WITH_ALL = re.compile(r" @ .*\.(t\(\)|m?T|transpose\([^()]*\))$|\bcdist\(.*\)$")


def _is_column(node: ast.expr) -> bool:
    """Whether it is `y[:, None]` or `y.unsqueeze(1)`."""
    return ast.unparse(node).endswith(("[:, None]", ".unsqueeze(1)", ".unsqueeze(-1)", ".view(-1, 1)"))


def _wrong_axis(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    outputs = evidence.first.outputs
    if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2:
        raise NoEvidence("no output of the network has a class axis")
    for site in source.calls("Softmax", "LogSoftmax"):  # `nn.Softmax(dim=0)(outputs)`
        outer, axis = source.parent(site.node), argument(site.node, 0, "dim")
        given = outer.args[0] if isinstance(outer, ast.Call) and outer.func is site.node and outer.args else None
        along = source.value(axis) if axis is not None else None
        if along == 0 and source.is_prediction(given, source.predictions_in(source.scope_of(site.node))):
            told = _OF_SAMPLES.format(ast.unparse(outer or site.node))
            yield _along(site.where, told, "samples", outputs, "nn.Softmax(dim=1)(outputs)")
            return
    for site in source.calls(*_ALONG):
        names = source.predictions_in(source.scope_of(site.node))
        owner, place = receiver_of(site.node), _ALONG[called(site.node)]
        if not source.is_prediction(_whole(owner), names):  # torch.argmax(outputs, 0)
            owner, place = (site.node.args[0] if site.node.args else None), place + 1
        if not source.is_prediction(_whole(owner), names):
            continue
        axis = argument(site.node, place, "dim") or argument(site.node, place, "axis")
        if owner is not _whole(owner):
            along = source.value(axis) if axis is not None else None
            if along is not None and along not in (-1, outputs.ndim - 1) and outputs.ndim > 2:
                told = f"`{site.text}` runs along axis {along}, but chooses among values of the last axis"
                yield _along(site.where, told, "positions", outputs, _with_axis(site.node, axis, -1))
                return
            continue
        if isinstance(axis, ast.Constant) and axis.value == 0 and type(axis.value) is int:
            told, right = _OF_SAMPLES.format(site.text), _with_axis(site.node, axis, 1)
            yield _along(site.where, told, "samples", outputs, right)
            return
        along = source.value(axis) if axis is not None else None
        if called(site.node) in ("argmax", "softmax") and along in (1, -1) and outputs.shape[1:] == (1,):
            yield _of_one(site, outputs)
            return


def _whole(node: ast.expr | None) -> ast.expr | None:
    """What some numbers of the last axis are of: `outputs` of `outputs[..., 3:]`; all else is left as it is."""
    index = node.slice if isinstance(node, ast.Subscript) else None
    if not isinstance(index, ast.Tuple) or not isinstance(node, ast.Subscript) or len(index.elts) != 2:
        return node
    first, last = index.elts
    rest = isinstance(first, ast.Constant) and first.value is ...
    return node.value if rest and isinstance(last, ast.Slice) else node


def _of_one(site: Site, outputs: torch.Tensor) -> Finding:
    """Of the only output of each sample, which is a score of yes or no."""
    chosen = called(site.node) == "argmax"
    return Finding(
        code="eval.wrong-axis",
        severity="error",
        where=site.where,
        measured=f"`{site.text}` runs along an axis of one number: the outputs have shape {tuple(outputs.shape)}",
        threshold="an axis of two classes or more",
        why="Of one number, the largest always has index 0, whatever the network predicts."
        if chosen
        else "The softmax of one number is always 1, whatever the network predicts.",
        remedy="`predicted = (logits > 0).long()`, for a probability above one half"
        if chosen
        else "`probability = torch.sigmoid(logits)`",
    )


def _along(where: str, measured: str, compared: str, outputs: torch.Tensor, right: str) -> Finding:
    """Of an axis along which `compared` lie."""
    return WRONG_AXIS.finding(
        severity="error",
        where=where,
        measured=f"{measured}: the outputs have shape {tuple(outputs.shape)}",
        limit=f"argmax, max, topk or softmax along the axis of {compared} instead of the class axis",
        why=f"It compares {compared} with each other instead of classes: the result is not a prediction.",
        remedy=f"`{right}`",
    )


_OF_SAMPLES = "`{}` runs along axis 0, the axis of the samples"


def _with_axis(call: ast.Call, axis: ast.expr | None, value: int) -> str:
    """The call with another number for its axis."""
    right = ast.copy_location(ast.Constant(value), call)
    args = [right if given is axis else given for given in call.args]
    words = [ast.keyword(word.arg, right) if word.value is axis else word for word in call.keywords]
    return ast.unparse(ast.Call(call.func, args, words))


def _threshold(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    told = next(_squashed_twice(source), None) or next(_of_one_class(evidence), None)
    if told is not None:
        yield told
        return
    for node in source.nodes(ast.Compare):
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.Gt | ast.GtE):
            continue
        limit = source.value(node.comparators[0])
        if not isinstance(limit, int | float) or isinstance(limit, bool):
            continue
        squashed = next((called(c) for c in ast.walk(node.left) if called(c) in _SQUASHING), "")
        made = _makers_of(source, node)
        squashed = squashed or (min(map(called, made)) if made and {*map(called, made)} <= _SQUASHING.keys() else "")
        named = _PROBABILITY.search(last_name(node.left))
        if not squashed and named and limit == 0 and not _is_no_prediction(source, node):
            text = ast.unparse(node.left)
            yield _limit(node, f"by its name `{text}` is a probability, which is always above 0", "0.5")
            return
        if squashed and not 0 < limit < 1:
            yield _limit(
                node,
                f"{squashed} gives values from 0 to 1, which are {'never' if limit >= 1 else 'always'} above {limit:g}",
                "0.5",
            )
            return
        if not 0 < limit < 1 and _are_logits(source, node, made) and _gives_probabilities(evidence):
            side = "never" if limit >= 1 else "always"
            yield _limit(node, f"the network gives probabilities, which are {side} above {limit:g}", "0.5")
            return
        modules = (value for value in source.names.values() if isinstance(value, nn.Module))
        logits = any(isinstance(part, nn.BCEWithLogitsLoss) for module in modules for part in module.modules())
        if logits and limit == 0.5 and not squashed and _are_logits(source, node, made):
            yield _limit(
                node, "the loss treats the outputs as logits, and a logit of 0.5 is a probability of 0.62", "0"
            )
            return


def _is_no_prediction(source: ScriptSource, node: ast.Compare) -> bool:
    """Whether what is named a probability is a setting, as that of dropout: it is known to be one number, or decides
    which lines run; or whether the comparison leaves out zeros, as before a logarithm: `probs[probs > 0]`."""
    part: ast.AST = node
    outer = source.parent(node)
    while isinstance(outer, ast.BoolOp | ast.UnaryOp):
        part, outer = outer, source.parent(outer)
    if isinstance(outer, ast.Subscript):
        return part is outer.slice and isinstance(outer.ctx, ast.Load)
    branches = isinstance(outer, ast.If | ast.While | ast.IfExp | ast.Assert) and part is outer.test
    return branches or isinstance(source.value(node.left), int | float) or _is_number_by_default(source, node)


def _is_number_by_default(source: ScriptSource, node: ast.Compare) -> bool:
    """Whether what is compared is a parameter of its function that is a number where a call leaves it out."""
    function = source.function_of(node)
    if function is None or not isinstance(node.left, ast.Name):
        return False
    given = function.args
    behind = [*given.posonlyargs, *given.args][-len(given.defaults) :] if given.defaults else []
    pairs = (*zip(behind, given.defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True))
    return any(
        parameter.arg == node.left.id and isinstance(default, ast.Constant) and isinstance(default.value, int | float)
        for parameter, default in pairs
    )


def _gives_probabilities(evidence: Evidence) -> bool:
    """Whether the loss takes what the network gives for probabilities, before and after the trial."""
    found = [
        outputs for each in (evidence.start_training, evidence.after_training) if (outputs := each.outputs).numel()
    ]
    asked = any(call.name == "binary_cross_entropy" for call in evidence.calls.losses)
    return asked and all(bool(((outputs >= 0) & (outputs <= 1)).all()) for outputs in found)


def _are_logits(source: ScriptSource, node: ast.Compare, made: list[ast.expr]) -> bool:
    """Whether a network gave what is compared, by what `made` it here, or in a call that hands it on."""
    if isinstance(node.left, ast.Name) and node.left.id in source.predictions_in(source.scope_of(node)):
        return True
    held = _innermost(node.left)
    given = _given(source, node, held.id) if isinstance(held, ast.Name) else []
    kept = [part for one in made or [held] for part in _kept(source, one)]
    return any(one and all(map(source.runs_network, one)) for one in (made, kept, *given))


def _kept(source: ScriptSource, value: ast.expr) -> list[ast.expr]:
    """What made the entries of a list that is an attribute, `self.outputs`, or what stands at one place in each of
    them, `[entry[0] for entry in self.outputs]`, in whichever function they are appended."""
    place = None
    if isinstance(value, ast.ListComp) and isinstance(value.elt, ast.Subscript) and len(value.generators) == 1:
        number, each = value.elt.slice, value.generators[0]
        if ast.unparse(value.elt.value) != ast.unparse(each.target) or not isinstance(number, ast.Constant):
            return []
        value, place = each.iter, number.value
    found = list[ast.expr]()
    for site in source.calls("append") if isinstance(value, ast.Attribute) else ():
        owner, entry = receiver_of(site.node), site.node.args[0] if site.node.args else None
        if owner is None or entry is None or ast.unparse(owner) != ast.unparse(value):
            continue
        if place is not None and isinstance(entry, ast.Tuple) and isinstance(place, int) and place < len(entry.elts):
            entry = entry.elts[place]
        elif place is not None:
            return []
        found += _origins(source, source.scope_of(site.node), entry, None, _DEEPEST)
    return found


def _squashed_twice(source: ScriptSource) -> Iterator[Finding]:
    """Sigmoids of what a sigmoid or a softmax gave, or of what is called a probability, where a prediction is made."""
    for where, node, given in _sigmoids(source):
        if not isinstance(given, ast.Name | ast.Call | ast.Attribute):
            continue
        # Nothing is called where it is a name.
        named = called(given) in _SQUASHING or _PROBABILITY.search(last_name(given))
        if not named and not (isinstance(given, ast.Name) and _is_squashed(source, node, given)):
            continue
        text, sigmoid = ast.unparse(given), ast.unparse(node)
        yield THRESHOLD.finding(
            severity="warning",
            where=where,
            measured=f"`{sigmoid}`: `{text}` are probabilities already, and a sigmoid of values from 0 to 1 gives "
            "only 0.5 to 0.73",
            limit="a sigmoid of values that are probabilities already",
            why="All predictions are on one side of 0.5, and do not show how sure the network is.",
            remedy=f"use `{text}` instead of `{sigmoid}`",
        )


def _sigmoids(source: ScriptSource) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    """Where a sigmoid is taken, also one that is written out, `1 / (1 + np.exp(-x))`; the expression, and what it is
    of."""
    for site in source.calls("sigmoid", "expit"):
        yield site.where, site.node, site.node.args[0] if site.node.args else receiver_of(site.node)
    for node in source.nodes(ast.BinOp):
        match node:
            case ast.BinOp(
                ast.Constant(1),
                ast.Div(),
                ast.BinOp(ast.Constant(1), ast.Add(), ast.Call(_, [ast.UnaryOp(ast.USub(), given)]) as power),
            ) if called(power) == "exp":
                yield f"line {node.lineno}", node, given


def _of_one_class(evidence: Evidence) -> Iterator[Finding]:
    """A softmax of predictions over labels of which a sample may have several, as the loss is told."""
    y, source = evidence.samples.y, evidence.source
    losses = [value for value in source.names.values() if isinstance(value, nn.BCEWithLogitsLoss)]
    if y is None or y.ndim != 2 or y.shape[1] < 2 or not bool(((y == 0) | (y == 1)).all()):
        return
    if not (losses or source.calls("binary_cross_entropy_with_logits")) or not bool((y.sum(1) > 1).any()):
        return
    for site in source.calls("softmax"):
        given = site.node.args[0] if site.node.args else receiver_of(site.node)
        asks = source.without_gradient(site.node)
        if asks and source.is_prediction(given, source.predictions_in(source.scope_of(site.node))):
            yield THRESHOLD.finding(
                severity="error",
                where=site.where,
                measured=f"`{site.text}` shares 1 among {y.shape[1]} labels, but a sample has up to "
                f"{int(y.sum(1).max())} of them, and the loss treats each output by itself",
                limit="a softmax over labels of which a sample may have several",
                why="Labels of the same sample take probability from each other: hardly any exceeds the threshold.",
                remedy=f"`torch.sigmoid({ast.unparse(given) if given is not None else 'logits'})`",
            )


def _is_squashed(source: ScriptSource, node: ast.expr, name: ast.Name) -> bool:
    """Whether the argument `name` of a sigmoid holds what a sigmoid or softmax gave: in its own function, or, of a
    parameter, in a call of that function, where no other is given what another call made, and no condition decides."""
    here = _origins(source, source.scope_of(node), name, None, _DEEPEST)
    by_callers = here in ([], [node])  # `p = sigmoid(p)`
    given = _given(source, node, name.id) if by_callers else [here]
    squashed = [one for one in given if one and {*map(called, one)} <= _SQUASHING.keys()]
    others = [part for one in given if one not in squashed for part in one if isinstance(part, ast.Call)]
    if by_callers and any(isinstance(part, ast.If | ast.IfExp) for part in source.around(node)):
        return False
    return bool(squashed) and not others and not any(node in one for one in squashed)


def _given(source: ScriptSource, node: ast.AST, name: str) -> list[list[ast.expr]]:
    """Of each call of the function around a node, what made that which it gives its parameter of a name, also within
    functions of the user's: `score(predict(loader))`, `score(*predict(loader))`."""
    function = source.function_of(node)
    names = [] if function is None else [parameter.arg for parameter in function.args.args]
    found = []
    for call in source.calls_of(function) if function is not None and name in names else []:
        spread = call.node.args[0] if call.node.args and isinstance(call.node.args[0], ast.Starred) else None
        value = dict(source.arguments(function, call.node)).get(name) if spread is None else spread.value  # type: ignore[arg-type]
        place = None if spread is None else names.index(name)
        made = [] if value is None else _origins(source, source.scope_of(call.node), value, place, _DEEPEST)
        found.append(made)
    return found


def _origins(source: ScriptSource, scope: ast.AST, value: ast.expr, place: int | None, depth: int) -> list[ast.expr]:
    """What made a value; of `place`, that part of what functions of the user's return."""
    value = _innermost(value)
    parts, found = [value], list[ast.expr]()
    if isinstance(value, ast.Name):
        parts = _makers(scope, value.id, frozenset({value.id}))
        for call, at in _taken_apart(scope, value.id):
            found += _origins(source, scope, call, at, depth)
    for part in parts:
        follows = depth and isinstance(part, ast.Call) and not source.runs_network(part)
        makers = source.functions_of(part) if follows and isinstance(part, ast.Call) else []
        returned = [(maker, node.value) for maker in makers for node in ast.walk(maker) if isinstance(node, ast.Return)]
        for maker, result in returned:
            if place is not None:
                result = result.elts[place] if isinstance(result, ast.Tuple) and place < len(result.elts) else None
            found += [] if result is None else _origins(source, maker, result, None, depth - 1)
        found += [] if returned else [part]
    return found


def _taken_apart(scope: ast.AST, name: str) -> Iterator[tuple[ast.Call, int]]:
    """The calls of which a name is one of several results, `out, y = predict(loader)`, each with its place."""
    for target, value in (pair for node in ast.walk(scope) for pair in assigned(node)):
        names = [ast.unparse(part) for part in target.elts] if isinstance(target, ast.Tuple) else []
        if name in names and isinstance(value, ast.Call):
            yield value, names.index(name)


def _innermost(held: ast.expr) -> ast.expr:
    """What lists put together and numbers brought elsewhere are of."""
    while isinstance(held, ast.Call) and called(held) in (*_TOGETHER, *_SAME_NUMBERS):
        inner = held.args[0] if called(held) in _TOGETHER and held.args else receiver_of(held)
        if inner is None:
            break
        held = inner
    return held


_PROBABILITY = re.compile(r"(^|_)prob(s|a|as|ability|abilities)?($|_)")


def _makers_of(source: ScriptSource, node: ast.Compare) -> list[ast.expr]:
    """What made a variable that is held against a limit, or a list of such put together, in the same function."""
    held = _innermost(node.left)
    if not isinstance(held, ast.Name):
        return []
    return _makers(source.scope_of(node), held.id, frozenset({held.id}))


_TOGETHER = (*ONE_BEHIND_THE_OTHER, "stack", "array")
_SAME_NUMBERS = (
    "numpy",
    "cpu",
    "detach",
    "squeeze",
    "flatten",
    "view",
    "reshape",
    "ravel",
    "float",
    "double",
    "tolist",
)


def _makers(scope: ast.AST, name: str, seen: frozenset[str]) -> list[ast.expr]:
    """The calls that made what a name stands for in a function, or the parts of a list that became it."""
    found = list[ast.expr]()
    for value in map(_innermost, _values_of(scope, name)):
        if isinstance(value, ast.Name):
            found += [] if value.id in seen else _makers(scope, value.id, seen | {value.id})
        elif not isinstance(value, ast.List) or value.elts:
            found.append(value)
    return found


def _values_of(scope: ast.AST, name: str) -> Iterator[ast.expr]:
    """What a name is given in a function, alone or beside others, and what it is longer by."""
    for part in ast.walk(scope):
        if isinstance(part, ast.Assign):
            yield from (value for target, value in assigned(part) if ast.unparse(target) == name)
        elif isinstance(part, ast.Call) and called(part) in ("append", "extend") and part.args:
            owner = receiver_of(part)
            yield from part.args[:1] if owner is not None and ast.unparse(owner) == name else ()


def _limit(node: ast.Compare, what: str, better: str) -> Finding:
    return THRESHOLD.finding(
        severity="warning",
        where=f"line {node.lineno}",
        measured=f"`{ast.unparse(node)}`: {what}",
        limit="a threshold between 0 and 1 for probabilities, and of 0 for logits of BCEWithLogitsLoss",
        why="The metric does not measure what the network was trained for.",
        remedy=f"`{ast.unparse(node.left)} > {better}`",
    )


WRONG_AXIS = Check(
    codes=("eval.wrong-axis",),
    question="Are predictions read along the class axis of the outputs?",
    run=_axes,
    of_source=True,
)
THRESHOLD = Check(
    codes=("eval.threshold",),
    question="Can outputs fall on both sides of the threshold that they are compared with?",
    run=_threshold,
    of_source=True,
    explains="eval.wrong-count",
)
