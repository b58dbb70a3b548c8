"""`eval.worst-kept`: is the epoch that a script keeps the one with the best value?"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_values, written_by_user
from striate.doctor.setup.script_source import (
    Function,
    ScriptSource,
    argument,
    assigned,
    called,
    last_name,
    receiver_of,
)
from striate.errors import StriateError
from striate.records import Finding

_LOW = frozenset(
    ("loss", "nll", "error", "err", "mse", "rmse", "mae", "ppl", "perplexity", "wer", "cer", "fid", "brier", "nme")
)
_HIGH = frozenset((
    "acc", "accuracy", "f1", "iou", "miou", "dice", "auc", "auroc", "psnr", "ssim", "top1", "recall", "precision",
    "bleu", "rouge", "chrf", "meteor", "bertscore", "cider", "map50", "ndcg", "mrr", "kappa", "qwk", "mcc", "matthews",
    "jaccard", "concordance", "cindex", "harrell", "harrells", "spearman", "pearson", "kendall", "r2", "auprc", "aupr",
    "pck", "pckh", "oks",
))  # fmt: skip
_RIGHT = frozenset(("correct", "hits"))
_NEGATIVE, _TRAINS = frozenset(("neg", "negative")), frozenset(("train", "training", "mixed", "half"))

_LESS, _GREATER = frozenset(("lt", "le", "less", "less_equal")), frozenset(("gt", "ge", "greater", "greater_equal"))
"""Functions that compare, of `operator`, numpy and torch."""
_LOWER = {"min": "max", "lt": "gt", "less": "greater"}
"""Modes that take the lowest for the best, each with its opposite."""


def _worst_kept(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for node in source.nodes():
        test = _comparison(node)
        said = None if test is None else _wrong_way(source, node, test)
        if test is not None and (begun := _never_better(evidence, node, test)) is not None:
            line, start, better = begun
            yield WORST_KEPT.finding(
                code="eval.worst-kept",
                severity="error",
                where=f"line {line}",
                measured=f"the best value starts at {start:g}, so `{ast.unparse(test)}` never holds",
                limit="a best loss or error that starts at 0 or less, though all losses are above 0, or a best score "
                "that starts at infinity",
                why="No epoch is ever kept: the weights used at the end are those from before training, or of the last "
                "epoch.",
                remedy=f"start with `float('{better}')`",
            )
            return
        if test is None or said is None:
            continue
        kind, sign = said
        yield WORST_KEPT.finding(
            code="eval.worst-kept",
            severity="error",
            where=f"line {test.lineno}",
            measured=f"`{ast.unparse(test)}` treats a {kind} as better",
            limit="by their names, the higher of two losses or errors, or the lower of two scores, is taken as the "
            "best",
            why="The epoch that is kept, and evaluated at the end, is the worst, not the best.",
            remedy=f"compare the other way: `{_turned(test, sign)}`, and start with "
            f"`float('{'inf' if sign == '<' else '-inf'}')`",
        )
        return
    for name, node in _not_copied(source):
        yield WORST_KEPT.finding(
            code="eval.worst-kept",
            severity="error",
            where=f"line {node.lineno}",
            measured=f"`{name} = {ast.unparse(node)}` makes no copy: it holds the network's own tensors, which all "
            "later steps change",
            limit="a `state_dict()` that is kept without a copy",
            why="The weights loaded at the end are those of the last epoch, not the best.",
            remedy=f"`{name} = copy.deepcopy({ast.unparse(node)})`",
        )
        return
    for name, monitor, mode, line in _kept_by_callback(source):
        words = _words_in(monitor)
        words = words if words & (_LOW | _HIGH | _NEGATIVE) else _logged(source, monitor)
        low, high = bool(words & _LOW), bool(words & _HIGH)
        right = next((pair[not low] for pair in _LOWER.items() if mode in pair), mode)
        if low == high or words & _NEGATIVE or mode == right:
            continue
        compares, lowers = mode in ("lt", "gt"), name == "ReduceLROnPlateau"
        if compares:
            remedy = f"`operator.{right}` where it is created"
        elif mode not in ("min", "max"):
            remedy = f"`{right!r}` where it is created"
        else:
            made = f"`{name}(monitor={monitor!r}, mode={right!r})`"
            remedy = made if monitor.isidentifier() else f"`mode={right!r}` where it is created"
        yield WORST_KEPT.finding(
            code="optim.scheduler-calls" if lowers else "eval.worst-kept",
            severity="error",
            where=f"line {line}",
            measured=f"`{name}` monitors `{monitor}` with {f'`{mode}`' if compares else f'mode {mode!r}'}: it treats "
            f"the {'highest' if low else 'lowest'} value as the best",
            limit="the mode of a callback contradicts the metric that it monitors, by the name of the metric or of "
            "what is logged",
            why="The rate is lowered because the metric improves."
            if lowers
            else "The epoch that is kept, or ends the training, is the worst, not the best.",
            remedy=remedy,
        )
        return


def _logged(source: ScriptSource, monitor: str) -> set[str]:
    """The words of the variables that a module logs by a name, as `self.log("val_r1", recall)`, and of what these are
    made of; none where that is turned round."""
    given = (site.node.args for site in source.calls("log"))
    values = [args[1] for args in given if len(args) > 1 and source.value(args[0]) == monitor]
    values = [value for value in values if isinstance(value, ast.Name | ast.Attribute)]
    values += [made for value in values for made in _made_of(source, value)]
    return set[str]() if any(map(_turns_round, values)) else set[str]().union(*map(_words, values))


def _not_copied(source: ScriptSource) -> Iterator[tuple[str, ast.Call]]:
    """Names for a network's `state_dict()` that a loop keeps under a condition, as of the best epoch, without a copy,
    and that is loaded behind the loop."""
    loaded = {ast.unparse(site.node.args[0]): site.node for site in source.calls("load_state_dict") if site.node.args}
    for site in source.calls("state_dict"):
        node = source.parent(site.node)
        values: list[ast.expr] = [site.node]
        if isinstance(node, ast.Tuple):
            values, node = node.elts, source.parent(node)
        if not isinstance(node, ast.Assign) or not isinstance(source.value(receiver_of(site.node)), nn.Module):
            continue
        target = node.targets[0]
        names = target.elts if isinstance(target, ast.Tuple) and len(values) > 1 else [target]
        name = next((ast.unparse(n) for n, v in zip(names, values, strict=False) if v is site.node), "")
        loops, under = source.loops_of(node), [part for part in source.around(node) if isinstance(part, ast.If)]
        behind = loaded.get(name)
        if not loops or not under or behind is None or behind.lineno <= (loops[-1].end_lineno or 0):
            continue
        yield name, site.node


def _kept_by_callback(source: ScriptSource) -> Iterator[tuple[str, str, str, int]]:
    """Name, metric, mode and line of each callback that keeps the best of a metric, a library's or the script's own."""
    own = _own_modes(source)
    modes = {"ModelCheckpoint": "min", "EarlyStopping": "min"} | own
    for site in source.calls(*modes):
        given = {word.arg: source.value(word.value) for word in site.node.keywords}
        monitor, mode = given.get("monitor"), given.get("mode", modes[called(site.node)])
        if monitor is None and called(site.node) in own and site.node.args:
            monitor = source.value(site.node.args[0])
        if isinstance(monitor, str) and isinstance(mode, str):
            yield called(site.node), monitor, mode, site.node.lineno
    yield from _by_objects(source)
    yield from _by_comparisons(source)
    yield from _by_plateaus(source)
    dicts = source.nodes(ast.Dict)
    for node in dicts:  # of a configuration
        named = {k.value: v for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant)}
        monitor, mode = (source.value(named.get(key)) for key in ("monitor", "mode"))
        if isinstance(monitor, str) and isinstance(mode, str):
            yield "dict", monitor, mode, node.lineno
    for site in source.calls("TrainingArguments", "Seq2SeqTrainingArguments"):
        given = {word.arg: source.value(word.value) for word in site.node.keywords}
        monitor, greater = given.get("metric_for_best_model"), given.get("greater_is_better")
        if isinstance(monitor, str) and isinstance(greater, bool):
            yield called(site.node), monitor, "max" if greater else "min", site.node.lineno


def _by_objects(source: ScriptSource) -> Iterator[tuple[str, str, str, int]]:
    """The same of what the script made to remember the best of the numbers that it is called with, as
    `stopper.step(val_loss)`: an object of its own class that has a `mode`, and something best."""
    for node in source.nodes(ast.Call):
        if not node.args or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        for holder in (node.func, receiver_of(node)):
            thing = None if holder is None else source.value(holder)
            held = getattr(thing, "__dict__", {})
            own = not isinstance(thing, nn.Module | type) and written_by_user(type(thing).__module__)
            if own and isinstance(held.get("mode"), str) and any("best" in name for name in held):
                yield type(thing).__name__, ast.unparse(node), held["mode"], node.lineno
                break


def _by_comparisons(source: ScriptSource) -> Iterator[tuple[str, str, str, int]]:
    """The same of objects of the script's own classes that hold a metric's name as `monitor`, or look it up, something
    best, and a function that compares, as `operator.lt`, or the word "less" or "greater"."""
    for thing in reached_values(source.names):
        held, name = getattr(thing, "__dict__", {}), type(thing).__name__
        if not any("best" in key for key in held) or not written_by_user(type(thing).__module__):
            continue
        keys = {"monitor"} if "monitor" in held else set(_looked_up(source, name))
        watched = [held[key] for key in keys if isinstance(held.get(key), str)]
        if len(watched) != 1:
            continue
        kinds = {getattr(value, "__name__", "") for value in held.values() if callable(value)}
        words = [value for value in held.values() if isinstance(value, str) and value in ("less", "greater")]
        mode = "lt" if kinds & _LESS else "gt" if kinds & _GREATER else words[0] if len(words) == 1 else ""
        line = next((site.node.lineno for site in source.calls(name)), 0)
        if mode:
            yield name, watched[0], mode, line


def _looked_up(source: ScriptSource, name: str) -> Iterator[str]:
    """Attributes by which methods of a class find a value: `metrics[self.save_best]`."""
    owners = (owner for owner in source.nodes(ast.ClassDef) if owner.name == name)
    for node in (node for owner in owners for node in ast.walk(owner)):
        key = node.slice if isinstance(node, ast.Subscript) else None
        key = argument(node, 0, "key") if isinstance(node, ast.Call) and called(node) == "get" else key
        turned = _turns_round(source.parent(node) or node)
        if isinstance(key, ast.Attribute) and ast.unparse(key.value) == "self" and not turned:
            yield key.attr


def _own_modes(source: ScriptSource) -> dict[str, str]:
    """Of the script's classes that are made with a metric to monitor and a mode the mode where none is given."""
    classes = {node.name: node for node in source.nodes(ast.ClassDef)}
    found: dict[str, str] = {}
    for name, owner in classes.items():
        bases = [classes[base.id] for base in owner.bases if isinstance(base, ast.Name) and base.id in classes]
        modes = (mode for one in (owner, *bases) if (mode := _mode_of(one)) is not None)
        if (mode := next(modes, None)) is not None:
            found[name] = mode
    return found


def _by_plateaus(source: ScriptSource) -> Iterator[tuple[str, str, str, int]]:
    """Of classes of the script's that hand what they are given on to a ReduceLROnPlateau, but for the metric that they
    `monitor`."""
    owners = source.nodes(ast.ClassDef)
    for owner in owners:
        made = next((f for f in owner.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
        names = [] if made is None else [part.arg for part in made.args.args[1:]]
        if made is None or made.args.kwarg is None or "monitor" not in names:
            continue
        rest = {made.args.kwarg.arg, *_kept_as(made, made.args.kwarg.arg)}
        plateaus = (node for node in ast.walk(owner) if called(node) == "ReduceLROnPlateau")
        handed = (word for node in plateaus if isinstance(node, ast.Call) for word in node.keywords if word.arg is None)
        if not any(ast.unparse(word.value) in rest for word in handed):
            continue
        usual = dict(zip(reversed(names), reversed(made.args.defaults), strict=False))
        for site in source.calls(owner.name):
            given = usual | dict(zip(names, site.node.args, strict=False))
            given |= {w.arg: w.value for w in site.node.keywords if w.arg}
            monitor, mode = source.value(given.get("monitor")), source.value(given.get("mode")) or "min"
            if isinstance(monitor, str) and isinstance(mode, str):
                yield "ReduceLROnPlateau", monitor, mode, site.node.lineno


def _kept_as(made: ast.FunctionDef, name: str) -> Iterator[str]:
    """Attributes that hold an argument as it is: `self.options = options`, also beside others."""
    for node in (part for part in ast.walk(made) if isinstance(part, ast.Assign)):
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            yield from (ast.unparse(one) for one, value in pairs if ast.unparse(value) == name)


def _mode_of(owner: ast.ClassDef) -> str | None:
    """The mode of a class that is made with a metric to monitor, where none is given; None of any other."""
    made = next((f for f in owner.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
    names = [] if made is None else [part.arg for part in made.args.args]
    if made is None or names[1:2] != ["monitor"] or "mode" not in names:
        return None
    place = names.index("mode") - len(names)
    default = made.args.defaults[place] if -place <= len(made.args.defaults) else None
    return str(default.value) if isinstance(default, ast.Constant) else ""


def _turned(test: ast.Compare, sign: str) -> str:
    one, other = test.left, test.comparators[0]
    new, best = (other, one) if "best" in _words(one) else (one, other)
    if isinstance(best, ast.BinOp) and best.left is _without_margin(best):
        margin = f"{'+' if sign == '>' else '-'} {ast.unparse(best.right)}"
        return f"{ast.unparse(new)} {sign} {ast.unparse(best.left)} {margin}"
    return f"{ast.unparse(new)} {sign} {ast.unparse(best)}"


def _comparison(node: ast.AST) -> ast.Compare | None:
    """`if new > best:`, or `is_best = new > best`, also beside other conditions."""
    test = node.test if isinstance(node, ast.If) else node.value if isinstance(node, ast.Assign) else None
    if isinstance(test, ast.BoolOp):  # `best is None or new > best or epoch == 0`, `phase == "val" and new > best`
        sides = [part for part in test.values if isinstance(part, ast.Compare) and "best" in _words(part)]
        test = sides[-1] if sides else None
    return test if isinstance(test, ast.Compare) else None


def _wrong_way(source: ScriptSource, node: ast.AST, test: ast.Compare) -> tuple[str, str] | None:
    """Of `if new > best: best = new` with the name of what should be low, or of `<` with one that should be high, what
    is taken, and the sign that is right."""
    kept = _kept(source, node, test)
    if kept is None or kept.low != kept.greater:
        return None
    return ("higher loss", "<") if kept.low else ("lower score", ">")


class _Kept(NamedTuple):
    """A comparison by which the best is kept: whether it is of what should be low, whether the greater one is taken,
    and what holds the best."""

    low: bool
    greater: bool
    best: ast.expr


def _kept(source: ScriptSource, node: ast.AST, test: ast.Compare) -> _Kept | None:
    """Of `if new > best: best = new`; None where names do not tell whether it should be low."""
    if len(test.ops) != 1:
        return None
    one, other = test.left, test.comparators[0]
    greater = isinstance(test.ops[0], ast.Gt | ast.GtE)
    if not greater and not isinstance(test.ops[0], ast.Lt | ast.LtE):
        return None
    one, other = _without_margin(one), _without_margin(other)
    if "best" in _words(one):
        one, other, greater = other, one, not greater
    if "best" not in _words(other) or _turns_round(test):
        return None
    if not _taken(source, node, one, other):
        return None
    made, own = _made_of(source, one), _words(one)
    words = (_told(source, made) if isinstance(one, ast.Name) else set()) or _given_to(source, one)
    words = words or _telling(own | _words(other)) or _told(source, made, by_names=True) or _share_right(source, made)
    words = words or (_of_sum(made[0]) if len(made) == 1 else set())
    words |= own & _NEGATIVE
    low, high = bool(words & _LOW), bool(words & _HIGH)
    return None if low == high or words & _NEGATIVE else _Kept(low, greater, other)


def _never_better(evidence: Evidence, node: ast.AST, test: ast.Compare) -> tuple[int, float, str] | None:
    """Where the best begins so good that none is ever better, the line, what it begins with, and with what it should: a
    loss with 0, as a score does. A loss that is below zero may begin so."""
    source = evidence.source
    condition = node.test if isinstance(node, ast.If) else node.value if isinstance(node, ast.Assign) else None
    kept = _kept(source, node, test)
    alone = condition is test or (isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And))
    if kept is None or kept.low == kept.greater or not alone:  # `epoch == 0 or loss < best`
        return None
    text = ast.unparse(kept.best)
    around = [part for part in source.around(node) if isinstance(part, Function | ast.ClassDef | ast.Module)]
    if isinstance(kept.best, ast.Attribute):
        around = [part for part in around if isinstance(part, ast.ClassDef)]
    within = set(ast.walk(node)) if isinstance(node, ast.If) else set[ast.AST]()
    given = [
        value
        for statement in (ast.walk(around[0]) if around else ())
        if statement not in within
        for target, value in assigned(statement)
        if ast.unparse(target) == text
    ]
    numbers = [float(number) for value in given if isinstance(number := _number(value), int | float)]
    if not given or len(numbers) < len(given):
        return None
    unbeaten = max(numbers) <= 0 and _above_zero(evidence) if kept.low else min(numbers) == math.inf
    return (given[0].lineno, numbers[0], "inf" if kept.low else "-inf") if unbeaten else None


def _above_zero(evidence: Evidence) -> bool:
    """Whether the losses of the trial are."""
    with suppress(NoEvidence, StriateError):
        return min(evidence.trial.losses, default=0.0) > 0
    return False


def _number(value: ast.expr) -> Any:
    """What a constant is, also one that is written as `float("inf")`."""
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        number = _number(value.operand)
        return -number if isinstance(number, int | float) else None
    if called(value) == "float" and isinstance(value, ast.Call) and len(value.args) == 1:
        value = value.args[0]
        return float(value.value) if isinstance(value, ast.Constant) and value.value in ("inf", "-inf") else None
    return value.value if isinstance(value, ast.Constant) else {"inf": math.inf}.get(last_name(value))


def _without_margin(side: ast.expr) -> ast.expr:
    """`best` of `best + delta`, by which a value has to be better."""
    if isinstance(side, ast.BinOp) and isinstance(side.op, ast.Add | ast.Sub) and "best" in _words(side.left):
        return side.left
    return side


def _taken(source: ScriptSource, node: ast.AST, one: ast.expr, other: ast.expr) -> bool:
    """Whether the best becomes the new one: under the condition, or `best = max(new, best)` beside it."""
    scope = node if isinstance(node, ast.If) else source.scope_of(node)
    new, best = ast.unparse(one), ast.unparse(other)
    for part in ast.walk(scope):
        if (
            isinstance(part, ast.Assign)
            and isinstance(part.value, ast.Tuple)
            and isinstance(part.targets[0], ast.Tuple)
        ):
            pairs = zip(part.targets[0].elts, part.value.elts, strict=False)
            if any(ast.unparse(target) == best and ast.unparse(value) == new for target, value in pairs):
                return True
        if isinstance(part, ast.Assign) and any(ast.unparse(target) == best for target in part.targets):
            extreme = isinstance(part.value, ast.Call) and called(part.value) in ("max", "min")
            given = {ast.unparse(word) for word in part.value.args} if isinstance(part.value, ast.Call) else set()
            either = (
                {ast.unparse(part.value.body), ast.unparse(part.value.orelse)}
                if isinstance(part.value, ast.IfExp)
                else set()
            )
            if ast.unparse(part.value) == new or (extreme and given == {new, best}) or either == {new, best}:
                return True
    return False


def _told(source: ScriptSource, made: list[ast.expr], *, by_names: bool = False) -> set[str]:
    """The words of what the user's function returns by which a value is made, or of what else it stands for, or
    `by_names` of functions; none where that is not one value, and words of both kinds where it is turned round,
    `1 - score`."""
    if len(made) == 1 and not isinstance(made[0], ast.Call) and _turns_round(made[0]):
        return {*_LOW, *_HIGH}
    if len(made) == 1 and isinstance(made[0], ast.Name | ast.Attribute | ast.Subscript):  # `current = val_loss`
        return _telling(_words(made[0]))
    if len(made) != 1 or not isinstance(made[0], ast.Call):
        return set()
    functions = source.functions_of(made[0])
    if not functions:  # `accuracy_score(y, predicted)`
        return _telling(_names_of(source, made[0]) if by_names else _words(ast.Name(called(made[0]))))
    returned = [part.value for f in functions for part in ast.walk(f) if isinstance(part, ast.Return) and part.value]
    if len(returned) != 1 or isinstance(returned[0], ast.Tuple | ast.Dict):
        return set()
    if _turns_round(returned[0]):
        return {*_LOW, *_HIGH}
    words = {word.removesuffix("es") if word.endswith("sses") else word for word in _words(returned[0])}
    calls = (part for part in (*ast.walk(returned[0]), made[0]) if by_names and isinstance(part, ast.Call))
    return _telling(words) or next(filter(None, (_telling(_names_of(source, call)) for call in calls)), set())


def _share_right(source: ScriptSource, made: list[ast.expr]) -> set[str]:
    """A word for what the user's function returns, or a name is given, where it is a number of hits, divided."""
    values = list(made)
    if len(made) == 1 and isinstance(made[0], ast.Call):
        inside = [part for function in source.functions_of(made[0]) for part in ast.walk(function)]
        values = [part.value for part in inside if isinstance(part, ast.Return) and part.value]
    value = values[0] if len(values) == 1 else None
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Div):
        return set()
    less = any(isinstance(part, ast.Sub) for part in ast.walk(value))  # `(total - hits) / total`
    return {"accuracy"} if _words(value.left) & _RIGHT and not less else set()


def _of_sum(value: ast.expr) -> set[str]:
    """What the names of all terms of a sum, as `(accuracy + 2 * iou) / 3`, say of it; empty where one says nothing."""
    if not isinstance(value, ast.BinOp):
        return _telling(_words(value)) if isinstance(value, ast.Name | ast.Attribute | ast.Subscript) else set()
    if isinstance(value.op, ast.Add):
        one, other = _of_sum(value.left), _of_sum(value.right)
        return one | other if one and other else set()
    if isinstance(value.op, ast.Mult | ast.Div) and isinstance(value.right, ast.Constant):
        return _of_sum(value.left)
    return _of_sum(value.right) if isinstance(value.op, ast.Mult) and isinstance(value.left, ast.Constant) else set()


def _made_of(source: ScriptSource, value: ast.expr) -> list[ast.expr]:
    """What a name is given in its function, or an attribute of any object in the script."""
    named = isinstance(value, ast.Name)
    wanted = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    scopes = [source.scope_of(value)] if named else source.trees.values() if wanted else ()
    parts = [part for scope in scopes for part in ast.walk(scope) if isinstance(part, ast.Assign)]
    if named:
        return [part.value for part in parts if [ast.unparse(target) for target in part.targets] == [wanted]]
    return [
        part.value
        for part in parts
        if not isinstance(part.value, ast.Constant)
        and any(isinstance(target, ast.Attribute) and target.attr == wanted for target in part.targets)
    ]


def _names_of(source: ScriptSource, call: ast.Call) -> set[str]:
    """The words of the function that is called, as it is written and of what it is: `self.metric` may be any. A
    training in mixed precision is none."""
    words = _words(ast.Name(f"{called(call)} {getattr(source.value(call.func), '__name__', '')}"))
    return set() if words & _TRAINS else words


def _telling(words: set[str]) -> set[str]:
    return words if words & (_LOW | _HIGH) else set()


def _given_to(source: ScriptSource, value: ast.expr) -> set[str]:
    """The words of what calls give a method for its parameter: `stopper(val_mae, model)` of a class of the script."""
    function = source.function_of(value)
    owner = None if function is None else source.parent(function)
    if (
        not isinstance(value, ast.Name)
        or not isinstance(owner, ast.ClassDef)
        or not isinstance(function, ast.FunctionDef)
    ):
        return set()
    parameters = [part.arg for part in function.args.args[1:]]
    made = {
        target.id
        for site in source.calls(owner.name)
        if isinstance(assigned := source.parent(site.node), ast.Assign)
        for target in assigned.targets
        if isinstance(target, ast.Name)
    }
    found: set[str] = set()
    for site in source.calls(*made, function.name) if value.id in parameters else ():
        name = site.node.func.value if isinstance(site.node.func, ast.Attribute) else site.node.func
        of_it = isinstance(name, ast.Name) and name.id in made
        if of_it and (function.name == "__call__") == isinstance(site.node.func, ast.Name):
            given = dict(zip(parameters, site.node.args, strict=False)) | {w.arg: w.value for w in site.node.keywords}
            found |= _words(given[value.id]) if value.id in given else set()
    return found if found & (_LOW | _HIGH) else set()


def _words(node: ast.expr) -> set[str]:
    """`acc1` is `acc` as well, and `logloss` is `loss`."""
    words = _words_in(ast.unparse(node))
    return words | {word.rstrip("0123456789") for word in words} | {"loss" for word in words if word.endswith("loss")}


def _words_in(text: str) -> set[str]:
    """The c-index of survival analysis is one word."""
    return set(re.findall(r"[a-z]+\d*", re.sub("(?<![a-z])c[_-](index|stat(istic)?)(?![a-z])", "cindex", text.lower())))


def _turns_round(node: ast.AST) -> bool:
    """Whether what is larger makes it smaller: `-score`, `1 - score`; not what a metric is given."""
    if isinstance(node, ast.Call) and _telling(_words(ast.Name(called(node)))):
        return False  # `concordance_index(times, -risks, events)`
    turned = (isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant)) or (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and isinstance(node.left, ast.Constant)
    )
    return turned or any(map(_turns_round, ast.iter_child_nodes(node)))


WORST_KEPT = Check(
    codes=("eval.worst-kept", "optim.scheduler-calls"),
    question="Is the saved epoch the best one?",
    run=_worst_kept,
    of_source=True,
)
