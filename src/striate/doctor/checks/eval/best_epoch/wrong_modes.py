"""Callbacks, schedulers and objects of the script that save the best of a metric in the wrong mode."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.eval.best_epoch.metric_words import (
    HIGH,
    LOW,
    NEGATIVE,
    assigned_values,
    negates,
    words_in,
    words_of,
)
from striate.doctor.setup.reached_objects import reached_values, written_by_user
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import argument, called, nodes_in, receiver_of
from striate.records import Finding

_LESS, _GREATER = frozenset(("lt", "le", "less", "less_equal")), frozenset(("gt", "ge", "greater", "greater_equal"))
"""Names of functions of `operator`, numpy and torch that compare."""
_LOWER = {"min": "max", "lt": "gt", "less": "greater"}
"""Modes that treat the lowest value as the best, each with its opposite."""


def in_wrong_mode(source: ScriptSource) -> Iterator[Finding]:
    """Modes that contradict the monitored metric, by its name or by the variables that are logged under it."""
    for name, monitor, mode, line in _callbacks(source):
        words = words_in(monitor)
        words = words if words & (LOW | HIGH | NEGATIVE) else _logged(source, monitor)
        low, high = bool(words & LOW), bool(words & HIGH)
        right = next((pair[not low] for pair in _LOWER.items() if mode in pair), mode)
        if low == high or words & NEGATIVE or mode == right:
            continue
        compares, lowers = mode in ("lt", "gt"), name == "ReduceLROnPlateau"
        if compares:
            remedy = f"`operator.{right}` where it is created"
        elif mode not in ("min", "max"):
            remedy = f"`{right!r}` where it is created"
        else:
            made = f"`{name}(monitor={monitor!r}, mode={right!r})`"
            remedy = made if monitor.isidentifier() else f"`mode={right!r}` where it is created"
        yield Finding(
            code="optim.scheduler-calls" if lowers else "eval.worst-kept",
            severity="error",
            where=f"line {line}",
            measured=f"`{name}` monitors `{monitor}` with {f'`{mode}`' if compares else f'mode {mode!r}'}: it treats "
            f"the {'highest' if low else 'lowest'} value as the best",
            threshold="the mode of a callback contradicts the metric that it monitors, by the name of the metric or of "
            "what is logged",
            why="The rate is lowered because the metric improves."
            if lowers
            else "The saved epoch, or the one that ends the training, is the worst, not the best.",
            remedy=remedy,
        )


def _callbacks(source: ScriptSource) -> Iterator[tuple[str, str, str, int]]:
    """Name, metric, mode and line of each callback that saves the best of a metric, a library's or the script's own."""
    own = _own_modes(source)
    modes = {"ModelCheckpoint": "min", "EarlyStopping": "min"} | own
    for site in source.calls(*modes):
        arguments = {word.arg: source.value(word.value) for word in site.node.keywords}
        monitor, mode = arguments.get("monitor"), arguments.get("mode", modes[called(site.node)])
        if monitor is None and called(site.node) in own and site.node.args:
            monitor = source.value(site.node.args[0])
        if isinstance(monitor, str) and isinstance(mode, str):
            yield called(site.node), monitor, mode, site.node.lineno
    yield from _by_objects(source)
    yield from _by_comparisons(source)
    yield from _by_plateaus(source)
    dicts = source.nodes(ast.Dict)
    for node in dicts:  # configurations
        named = {k.value: v for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant)}
        monitor, mode = (source.value(named.get(key)) for key in ("monitor", "mode"))
        if isinstance(monitor, str) and isinstance(mode, str):
            yield "dict", monitor, mode, node.lineno
    for site in source.calls("TrainingArguments", "Seq2SeqTrainingArguments"):
        arguments = {word.arg: source.value(word.value) for word in site.node.keywords}
        monitor, greater = arguments.get("metric_for_best_model"), arguments.get("greater_is_better")
        if isinstance(monitor, str) and isinstance(greater, bool):
            yield called(site.node), monitor, "max" if greater else "min", site.node.lineno


def _logged(source: ScriptSource, monitor: str) -> set[str]:
    """The words of the variables that a module logs under a name, as in `self.log("val_r1", recall)`, and of the values
    that are assigned to them; empty where one is negated."""
    calls = (site.node.args for site in source.calls("log"))
    values = [args[1] for args in calls if len(args) > 1 and source.value(args[0]) == monitor]
    values = [value for value in values if isinstance(value, ast.Name | ast.Attribute)]
    values += [made for value in values for made in assigned_values(source, value)]
    return set[str]() if any(map(negates, values)) else set[str]().union(*map(words_of, values))


def _by_objects(source: ScriptSource) -> Iterator[tuple[str, str, str, int]]:
    """The same four of calls such as `stopper.step(val_loss)`: the object is of a class of the script, and has a `mode`
    and a best value."""
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
    """The same four of objects of the script's classes with a best value, the name of a metric (as `monitor`, or looked
    up in a dict), and a function that compares, such as `operator.lt`, or the word "less" or "greater"."""
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
    """The attributes with which methods of a class look a value up: `save_best` of `metrics[self.save_best]`."""
    owners = (owner for owner in source.nodes(ast.ClassDef) if owner.name == name)
    for node in nodes_in(owners):
        key = node.slice if isinstance(node, ast.Subscript) else None
        key = argument(node, 0, "key") if isinstance(node, ast.Call) and called(node) == "get" else key
        turned = negates(source.parent(node) or node)
        if isinstance(key, ast.Attribute) and ast.unparse(key.value) == "self" and not turned:
            yield key.attr


def _own_modes(source: ScriptSource) -> dict[str, str]:
    """The default mode of each class of the script that is created with a metric to monitor and a mode."""
    classes = {node.name: node for node in source.nodes(ast.ClassDef)}
    found: dict[str, str] = {}
    for name, owner in classes.items():
        bases = [classes[base.id] for base in owner.bases if isinstance(base, ast.Name) and base.id in classes]
        modes = (mode for one in (owner, *bases) if (mode := _mode_of(one)) is not None)
        if (mode := next(modes, None)) is not None:
            found[name] = mode
    return found


def _by_plateaus(source: ScriptSource) -> Iterator[tuple[str, str, str, int]]:
    """The same four of classes of the script that `monitor` a metric and pass their other arguments to a
    ReduceLROnPlateau."""
    owners = source.nodes(ast.ClassDef)
    for owner in owners:
        made = next((f for f in owner.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
        names = [] if made is None else [part.arg for part in made.args.args[1:]]
        if made is None or made.args.kwarg is None or "monitor" not in names:
            continue
        rest = {made.args.kwarg.arg, *_stored_as(made, made.args.kwarg.arg)}
        plateaus = (node for node in ast.walk(owner) if called(node) == "ReduceLROnPlateau")
        handed = (word for node in plateaus if isinstance(node, ast.Call) for word in node.keywords if word.arg is None)
        if not any(ast.unparse(word.value) in rest for word in handed):
            continue
        defaults = dict(zip(reversed(names), reversed(made.args.defaults), strict=False))
        for site in source.calls(owner.name):
            arguments = defaults | dict(zip(names, site.node.args, strict=False))
            arguments |= {w.arg: w.value for w in site.node.keywords if w.arg}
            monitor, mode = source.value(arguments.get("monitor")), source.value(arguments.get("mode")) or "min"
            if isinstance(monitor, str) and isinstance(mode, str):
                yield "ReduceLROnPlateau", monitor, mode, site.node.lineno


def _stored_as(made: ast.FunctionDef, name: str) -> Iterator[str]:
    """The attributes that an argument is assigned to, alone or in a tuple: `self.options = options`."""
    for node in nodes_in(made, ast.Assign):
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=False))
            yield from (ast.unparse(one) for one, value in pairs if ast.unparse(value) == name)


def _mode_of(owner: ast.ClassDef) -> str | None:
    """The default mode of a class that is created with a metric to monitor; None for other classes."""
    made = next((f for f in owner.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
    names = [] if made is None else [part.arg for part in made.args.args]
    if made is None or names[1:2] != ["monitor"] or "mode" not in names:
        return None
    place = names.index("mode") - len(names)
    default = made.args.defaults[place] if -place <= len(made.args.defaults) else None
    return str(default.value) if isinstance(default, ast.Constant) else ""
