"""`eval.threshold`: can outputs fall on both sides of the threshold that they are compared with?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import is_binary
from striate.doctor.setup.script_source import CONCATENATIONS, ScriptSource
from striate.doctor.setup.syntax import assigned, called, defaults_of, last_name, nodes_in, receiver_of
from striate.records import Finding

_DEEPEST = 3
"""Depth of nested calls that are followed."""
_SQUASHING = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "expit": (0.0, 1.0)}


def _threshold(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    finding = next(_squashed_twice(evidence), None) or next(_of_one_class(evidence), None)
    if finding is not None:
        yield finding
        return
    for node in source.nodes(ast.Compare):
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.Gt | ast.GtE):
            continue
        limit = source.value(node.comparators[0])
        if not isinstance(limit, int | float) or isinstance(limit, bool):
            continue
        squashed = next((called(c) for c in ast.walk(node.left) if called(c) in _SQUASHING), "")
        made = _makers_of(source, node)
        makers = [part for one in made for part in _origins(source, source.scope_of(node), one, None, _DEEPEST)]
        squashed = squashed or (
            min(map(called, makers)) if makers and {*map(called, makers)} <= _SQUASHING.keys() else ""
        )
        named = _PROBABILITY.search(last_name(node.left))
        by_name = not squashed and named and limit == 0 and not _is_no_prediction(source, node)
        if by_name and not (_are_logits(source, node, made) and _gives_other_numbers(evidence)):
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
    """Whether a variable named as a probability is not a prediction: a setting, such as that of dropout, which is one
    known number or decides which lines run; or an index that leaves out zeros, as in `probs[probs > 0]`."""
    part: ast.AST = node
    outer = source.parent(node)
    while isinstance(outer, ast.BoolOp | ast.UnaryOp):
        part, outer = outer, source.parent(outer)
    if isinstance(outer, ast.Subscript):
        return part is outer.slice and isinstance(outer.ctx, ast.Load)
    branches = isinstance(outer, ast.If | ast.While | ast.IfExp | ast.Assert) and part is outer.test
    return branches or isinstance(source.value(node.left), int | float) or _is_number_by_default(source, node)


def _is_number_by_default(source: ScriptSource, node: ast.Compare) -> bool:
    """Whether the compared variable is a parameter of its function whose default is a number."""
    function = source.function_of(node)
    if function is None or not isinstance(node.left, ast.Name):
        return False
    default = defaults_of(function).get(node.left.id)
    return isinstance(default, ast.Constant) and isinstance(default.value, int | float)


def _gives_probabilities(evidence: Evidence) -> bool:
    """Whether the loss takes probabilities, and all outputs are between 0 and 1 before and after the trial."""
    found = [
        outputs for each in (evidence.start_training, evidence.after_training) if (outputs := each.outputs).numel()
    ]
    takes_probabilities = any(call.name == "binary_cross_entropy" for call in evidence.calls.losses)
    return takes_probabilities and all(bool(((outputs >= 0) & (outputs <= 1)).all()) for outputs in found)


def _gives_other_numbers(evidence: Evidence) -> bool:
    """Whether some outputs of the network are not probabilities, whatever the name of their variable."""
    outputs = evidence.after_training.outputs
    return bool(((outputs < 0) | (outputs > 1)).any())


def _are_logits(source: ScriptSource, node: ast.Compare, made: list[ast.expr]) -> bool:
    """Whether the compared value is the output of a network: by the expressions that `made` it here, by the lists that
    collect it, or by the arguments of calls."""
    if isinstance(node.left, ast.Name) and node.left.id in source.predictions_in(source.scope_of(node)):
        return True
    held = innermost(node.left)
    passed = _argument_origins(source, node, held.id) if isinstance(held, ast.Name) else []
    collected = [part for one in made or [held] for part in _collected(source, one)]
    return any(one and all(map(source.runs_network, one)) for one in (made, collected, *passed))


def _collected(source: ScriptSource, value: ast.expr) -> list[ast.expr]:
    """The expressions that made the entries of a list attribute, `self.outputs`, or one part of each entry,
    `[entry[0] for entry in self.outputs]`, in whichever function they are appended."""
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


def _squashed_twice(evidence: Evidence) -> Iterator[Finding]:
    """Sigmoids of results of a sigmoid or a softmax, or of variables named as probabilities."""
    source = evidence.source
    for where, node, argument in _sigmoids(source):
        if not isinstance(argument, ast.Name | ast.Call | ast.Attribute):
            continue
        # `called` is empty for names.
        named = called(argument) in _SQUASHING or _PROBABILITY.search(last_name(argument))
        if not named and not (isinstance(argument, ast.Name) and _is_squashed(source, node, argument)):
            continue
        if isinstance(argument, ast.Name) and argument.id in source.predictions_in(source.scope_of(node)):
            made = [value for value in values_of(source.scope_of(node), argument.id) if value is not node]
            if made and all(map(source.runs_network, made)) and _gives_other_numbers(evidence):
                continue  # despite its name it holds outputs that are not probabilities
        text, sigmoid = ast.unparse(argument), ast.unparse(node)
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
    """Sigmoids in the script, also written out, `1 / (1 + np.exp(-x))`: the place, the expression, and its argument."""
    for site in source.calls("sigmoid", "expit"):
        yield site.where, site.node, site.node.args[0] if site.node.args else receiver_of(site.node)
    for node in source.nodes(ast.BinOp):
        match node:
            case ast.BinOp(
                ast.Constant(1),
                ast.Div(),
                ast.BinOp(ast.Constant(1), ast.Add(), ast.Call(_, [ast.UnaryOp(ast.USub(), argument)]) as power),
            ) if called(power) == "exp":
                yield f"line {node.lineno}", node, argument


def _of_one_class(evidence: Evidence) -> Iterator[Finding]:
    """A softmax of predictions where a sample may have several labels, by its targets and the loss."""
    y, source = evidence.samples.y, evidence.source
    losses = [value for value in source.names.values() if isinstance(value, nn.BCEWithLogitsLoss)]
    if y is None or y.ndim != 2 or y.shape[1] < 2 or not is_binary(y):
        return
    if not (losses or source.calls("binary_cross_entropy_with_logits")) or not bool((y.sum(1) > 1).any()):
        return
    for site in source.calls("softmax"):
        argument = site.node.args[0] if site.node.args else receiver_of(site.node)
        evaluates = source.without_gradient(site.node)
        if evaluates and source.is_prediction(argument, source.predictions_in(source.scope_of(site.node))):
            yield THRESHOLD.finding(
                severity="error",
                where=site.where,
                measured=f"`{site.text}` shares 1 among {y.shape[1]} labels, but a sample has up to "
                f"{int(y.sum(1).max())} of them, and the loss treats each output by itself",
                limit="a softmax over labels of which a sample may have several",
                why="Labels of the same sample take probability from each other: hardly any exceeds the threshold.",
                remedy=f"`torch.sigmoid({ast.unparse(argument) if argument is not None else 'logits'})`",
            )


def _is_squashed(source: ScriptSource, node: ast.expr, name: ast.Name) -> bool:
    """Whether the argument `name` of a sigmoid is the result of a sigmoid or softmax: in its own function, or, if it is
    a parameter, in some call of the function, while no other call passes another function's result and no condition is
    around the sigmoid."""
    here = _origins(source, source.scope_of(node), name, None, _DEEPEST)
    by_callers = here in ([], [node])  # `p = sigmoid(p)`
    origins = _argument_origins(source, node, name.id) if by_callers else [here]
    squashed = [one for one in origins if one and {*map(called, one)} <= _SQUASHING.keys()]
    others = [part for one in origins if one not in squashed for part in one if isinstance(part, ast.Call)]
    if by_callers and any(isinstance(part, ast.If | ast.IfExp) for part in source.enclosing(node)):
        return False
    return bool(squashed) and not others and not any(node in one for one in squashed)


def _argument_origins(source: ScriptSource, node: ast.AST, name: str) -> list[list[ast.expr]]:
    """For each call of the function around a node, the expressions that made its argument for the parameter `name`,
    also within functions of the user's: `score(predict(loader))`, `score(*predict(loader))`."""
    function = source.function_of(node)
    names = [] if function is None else [parameter.arg for parameter in function.args.args]
    found = []
    for call in source.calls_of(function) if function is not None and name in names else []:
        starred = call.node.args[0] if call.node.args and isinstance(call.node.args[0], ast.Starred) else None
        value = dict(source.arguments(function, call.node)).get(name) if starred is None else starred.value  # type: ignore[arg-type]
        place = None if starred is None else names.index(name)
        made = [] if value is None else _origins(source, source.scope_of(call.node), value, place, _DEEPEST)
        found.append(made)
    return found


def _origins(source: ScriptSource, scope: ast.AST, value: ast.expr, place: int | None, depth: int) -> list[ast.expr]:
    """The expressions that made a value. With `place`: the result at this place in what the user's functions return."""
    value = innermost(value)
    parts, found = [value], list[ast.expr]()
    if isinstance(value, ast.Name):
        parts = _makers(scope, value.id, frozenset({value.id}))
        for call, at in taken_apart(scope, value.id):
            found += _origins(source, scope, call, at, depth)
    for part in parts:
        follows = depth and isinstance(part, ast.Call) and not source.runs_network(part)
        makers = source.functions_of(part) if follows and isinstance(part, ast.Call) else []
        returned = [(maker, node.value) for maker in makers for node in nodes_in(maker, ast.Return)]
        for maker, result in returned:
            if place is not None:
                result = result.elts[place] if isinstance(result, ast.Tuple) and place < len(result.elts) else None
            found += [] if result is None else _origins(source, maker, result, None, depth - 1)
        found += [] if returned else [part]
    return found


def taken_apart(scope: ast.AST, name: str) -> Iterator[tuple[ast.Call, int]]:
    """The calls of whose results a name is one, `out, y = predict(loader)`, each with its place."""
    for target, value in (pair for node in ast.walk(scope) for pair in assigned(node)):
        names = [ast.unparse(part) for part in target.elts] if isinstance(target, ast.Tuple) else []
        if name in names and isinstance(value, ast.Call):
            yield value, names.index(name)


def innermost(held: ast.expr) -> ast.expr:
    """The expression within calls that concatenate, move or reshape: `x` in `torch.cat(x).cpu()`."""
    while isinstance(held, ast.Call) and called(held) in (*_TOGETHER, *_SAME_NUMBERS):
        inner = held.args[0] if called(held) in _TOGETHER and held.args else receiver_of(held)
        if inner is None:
            break
        held = inner
        if isinstance(inner, ast.ListComp | ast.GeneratorExp) and isinstance(inner.elt, ast.Call):
            held = inner.elt
    return held


_PROBABILITY = re.compile(r"(^|_)prob(s|a|as|ability|abilities)?($|_)")


def _makers_of(source: ScriptSource, node: ast.Compare) -> list[ast.expr]:
    """The expressions that made the variable on the left of a comparison, or the list that became it, in the same
    function."""
    held = innermost(node.left)
    if not isinstance(held, ast.Name):
        return []
    return _makers(source.scope_of(node), held.id, frozenset({held.id}))


_TOGETHER = (*CONCATENATIONS, "stack", "array")
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
    """The expressions that made the value of a name in a function, or the parts of a list that became it."""
    found = list[ast.expr]()
    for value in map(innermost, values_of(scope, name)):
        if isinstance(value, ast.Name):
            found += [] if value.id in seen else _makers(scope, value.id, seen | {value.id})
        elif not isinstance(value, ast.List) or value.elts:
            found.append(value)
    return found


def values_of(scope: ast.AST, name: str) -> Iterator[ast.expr]:
    """The values that are assigned to a name in a function, alone or in a tuple, or appended to it."""
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


THRESHOLD = Check(
    codes=("eval.threshold",),
    run=_threshold,
    of_source=True,
    explains="eval.wrong-count",
)
