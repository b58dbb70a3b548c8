"""Counts of an evaluation that are created before the epochs and never reset."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain, permutations
from typing import NamedTuple

from striate.doctor.checks.eval.evaluation_loops import added_in, after_loop, evaluation_loops
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_values
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import called, is_constant, is_operation, last_name, nodes_in, receiver_of
from striate.wording import listed

_EARLIER = "The number printed for an epoch is the mean over this and all earlier epochs."


class CountNeverReset(NamedTuple):
    """A count that continues from epoch to epoch. The last three fields become those of its finding."""

    line: int
    measured: str
    remedy: str
    why: str = _EARLIER


def counts_never_reset(evidence: Evidence) -> Iterator[CountNeverReset]:
    """Counts that are created before the epochs and added to in each evaluation."""
    yield from chain(
        _in_loops(evidence),
        _losses_in_loops(evidence),
        _reset_never_called(evidence.source),
        _never_zeroed(evidence.source),
        _held_by_library(evidence.source),
        _never_zeroed_by_callbacks(evidence.source),
    )


def _in_loops(evidence: Evidence) -> Iterator[CountNeverReset]:
    for loop, loader, _ in evaluation_loops(evidence.source):
        name = None if loader is evidence.setup.train else _never_emptied(evidence.source, loop)
        if name is not None:
            yield CountNeverReset(
                loop.lineno,
                f"`{name}` is created once, before the epochs, and each evaluation adds to it: the result is that of "
                "all epochs so far",
                f"create `{name}` again before the loop in line {loop.lineno}",
            )


def _losses_in_loops(evidence: Evidence) -> Iterator[CountNeverReset]:
    """A sum of training losses that is divided by the number of batches, or of samples, of one epoch."""
    source = evidence.source
    for loop, loader, _ in evaluation_loops(source):
        name = _never_emptied(source, loop) if loader is evidence.setup.train and (source.epochs or 0) > 1 else None
        if name is None or "loss" not in name.lower():
            continue
        for node in after_loop(source, loop, name):
            if is_operation(node, ast.Div) and called(node.right) == "len" and ast.unparse(node.left) == name:
                yield CountNeverReset(
                    node.lineno,
                    f"`{ast.unparse(node)}` divides a sum of losses, created once, before the epochs, by the length of "
                    "one epoch: it rises with each epoch, though the network learns",
                    f"set `{name} = 0.0` at the beginning of each epoch",
                    "The number printed for an epoch is the sum over this and all earlier epochs.",
                )
                return


def _never_emptied(source: ScriptSource, loop: ast.For) -> str | None:
    """The variable that a loop over data adds to, that the loop around it never creates again, and that is used after
    the loop; None where there is none."""
    around = source.loops_of(loop)
    if not around:
        return _global_never_reset(source, loop)
    epochs = around[-1]
    inside = list(ast.walk(epochs))
    added = [node.target for node in inside if isinstance(node, ast.AugAssign)]
    assigned = {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n not in added}
    emptied = {
        ast.unparse(receiver_of(node) or node)
        for node in inside
        if isinstance(node, ast.Call) and called(node) in ("clear", "reset")
    }
    for name, (_, value) in added_in(loop, "extend").items():
        if isinstance(value, ast.Constant) or name in assigned | emptied:
            continue
        for node in after_loop(source, loop, name):
            if getattr(node, "lineno", 0) <= (epochs.end_lineno or 0) and any(
                part.id == name and not isinstance(source.parent(part), ast.Subscript)
                for part in nodes_in(_computed_from(node), ast.Name)
            ):
                return name
    return None


def _global_never_reset(source: ScriptSource, loop: ast.For) -> str | None:
    """A global variable that a function adds to in a loop over data, and computes a result from, in each epoch, while
    only code that runs once sets it."""
    function = source.function_of(loop)
    if function is None or not any(site.often == "epoch" for site in source.calls_of(function)):
        return None
    for name, (_, value) in added_in(loop, "extend").items():
        if isinstance(value, ast.Constant) or not _is_global(function, name):
            continue
        nodes = (node for node in source.nodes(ast.Name) if node.id == name and isinstance(node.ctx, ast.Store))
        stores = [node for node in nodes if not isinstance(source.parent(node), ast.AugAssign)]
        again = (node for node in stores if source.loops_of(node) or _is_global(source.function_of(node), name))
        if any(again) or not any(source.function_of(node) is None for node in stores):
            continue
        results = (part for node in after_loop(source, loop, name) for part in _computed_from(node))
        if any(part.id == name for part in nodes_in(results, ast.Name)):
            return name
    return None


def _is_global(function: ast.AST | None, name: str) -> bool:
    declared = ast.walk(function) if function is not None else ()
    return any(isinstance(node, ast.Global) and name in node.names for node in declared)


def _computed_from(node: ast.AST) -> list[ast.expr]:
    """The operands from which a quotient or a call computes a result."""
    if is_operation(node, ast.Div):
        return [node.left]
    calls = isinstance(node, ast.Call) and called(node) not in ("print", "len", "append", "extend", "plot", "save")
    return list(node.args) if isinstance(node, ast.Call) and calls else []


def _reset_never_called(source: ScriptSource) -> Iterator[CountNeverReset]:
    """A metric of the script's own class that is created once and never reset, though its class has a `reset`."""
    if (source.epochs or 0) < 2:
        return
    for owner in source.nodes(ast.ClassDef):
        methods = {part.name for part in owner.body if isinstance(part, ast.FunctionDef)}
        if not {"reset", "update"} <= methods or not methods & {"compute", "result", "avg", "value"}:
            continue
        resets = [
            node
            for node in source.nodes(ast.Attribute)
            if node.attr == "reset" and (owner not in source.enclosing(node) or not called(source.parent(node) or node))
        ]
        made = source.calls(owner.name)
        if not resets and made and all(site.often == "once" for site in made):
            assigned = source.parent(made[0].node)
            name = ast.unparse(assigned.targets[0]) if isinstance(assigned, ast.Assign) else owner.name
            yield CountNeverReset(
                made[0].node.lineno,
                f"`{name}` is created once, before the epochs, and nothing calls its `reset()`: its result is "
                "that of all epochs so far",
                "call `reset()` before each evaluation",
            )


def _never_zeroed(source: ScriptSource) -> Iterator[CountNeverReset]:
    """A count that `validation_step` adds to and `on_validation_epoch_end` divides, but that nothing sets to zero
    between two validations."""
    if source.library is None or (source.epochs or 2) < 2:
        return
    for owner in source.nodes(ast.ClassDef):
        methods = {part.name: part for part in owner.body if isinstance(part, ast.FunctionDef)}
        step, end = methods.get("validation_step"), methods.get("on_validation_epoch_end")
        if step is None or end is None:
            continue
        added = {
            part.target.attr: part
            for part in nodes_in(step, ast.AugAssign)
            if isinstance(part.op, ast.Add) and _is_own(part.target)
            if isinstance(part.target, ast.Attribute)
        }
        divided = {
            part.attr
            for node in ast.walk(end)
            if is_operation(node, ast.Div)
            for part in nodes_in(node, ast.Attribute)
            if _is_own(part)
        }
        for name in added.keys() & divided:
            if not any(_sets(method, name) for key, method in methods.items() if key not in _ONCE):
                yield CountNeverReset(
                    added[name].lineno,
                    f"`{ast.unparse(added[name])}` adds to a count that `on_validation_epoch_end` divides, but "
                    "no method resets it between two validations",
                    f"set `self.{name} = 0` in `on_validation_epoch_start`",
                    "The number reported for an epoch counts this and all earlier epochs: it may pass 100 %.",
                )


_ONCE = ("__init__", "setup", "configure_model", "prepare_data", "on_fit_start", "on_train_start",
         "on_sanity_check_start", "on_sanity_check_end")  # fmt: skip
"""Methods that a library calls once."""


def _never_zeroed_by_callbacks(source: ScriptSource) -> Iterator[CountNeverReset]:
    """A count of right predictions that one method of an object adds to and another divides by a second count in each
    epoch, while only methods that are called once set it. Calls by name count too: `self("before_fit")`."""
    if source.library is not None or (source.epochs or 0) < 2 or source.calls("setattr", "vars"):
        return
    classes = {node.name: node for node in source.nodes(ast.ClassDef)}
    for owner in classes.values():
        kinds = [owner]
        for kind in kinds:
            bases = [classes[name] for base in kind.bases if (name := ast.unparse(base)) in classes]
            kinds += [base for base in bases if base not in kinds]
        methods = [part for kind in kinds for part in kind.body if isinstance(part, ast.FunctionDef)]
        if any(ast.unparse(base) not in (*classes, "object") for kind in kinds for base in kind.bases):
            continue  # a library's class may set it, as metrics are reset
        for adding, divides in permutations(methods, 2):
            for share, right, seen in _shares_of_right(adding, divides):
                setting = [method for method in methods if _sets(method, right) or _sets(method, seen)]
                once = setting and all(_is_called_once(source, owner, method) for method in setting)
                often = {site.often for site in _calls_by_name(source, divides.name)}
                if once and often == {"epoch"} and not _set_by_others(source, kinds, right):
                    yield CountNeverReset(
                        share.lineno,
                        f"`{ast.unparse(share)}` divides a count that `{adding.name}` adds to, but only "
                        f"{listed([f'`{method.name}`' for method in setting])} sets it, which is called once: the "
                        "result is that of all epochs so far",
                        f"set `self.{right}` and `self.{seen}` to 0 at the beginning of each pass over data",
                    )


def _shares_of_right(adding: ast.FunctionDef, divides: ast.FunctionDef) -> Iterator[tuple[ast.BinOp, str, str]]:
    """Quotients in one method of two counts that another method adds to, each with the names of the count of right
    predictions and of the other count."""
    added = {
        part.target.attr: part.value
        for part in nodes_in(adding, ast.AugAssign)
        if isinstance(part.op, ast.Add)
        if isinstance(part.target, ast.Attribute) and _is_own(part.target)
    }
    for node in ast.walk(divides) if added else ():
        if is_operation(node, ast.Div) and _is_own(node.left) and _is_own(node.right):
            right, seen = last_name(node.left), last_name(node.right)
            if {right, seen} <= added.keys() and _counts_right(added[right]):
                yield node, right, seen


def _counts_right(value: ast.expr) -> bool:
    parts = list(ast.walk(value))
    return any(called(part) == "sum" for part in parts) and any(
        called(part) == "eq" or (isinstance(part, ast.Compare) and isinstance(part.ops[0], ast.Eq)) for part in parts
    )


def _calls_by_name(source: ScriptSource, name: str) -> list[Site]:
    """Calls of methods of this name, and calls with the name as an argument: `self("after_epoch")`."""

    def gives_name(call: ast.Call) -> bool:
        given = any(is_constant(part, name) for part in call.args)
        return given and called(call) not in ("getattr", "hasattr")

    return [*source.calls(name), *source.sites(gives_name)]


def _is_called_once(source: ScriptSource, owner: ast.ClassDef, method: ast.FunctionDef) -> bool:
    sites = _calls_by_name(source, owner.name if method.name == "__init__" else method.name)
    return bool(sites) and all(site.often == "once" for site in sites)


def _set_by_others(source: ScriptSource, kinds: list[ast.ClassDef], name: str) -> bool:
    """Whether code outside of these classes assigns to an attribute of this name."""
    own = set(nodes_in(kinds))
    stored = (node for node in source.nodes(ast.Attribute) if isinstance(node.ctx, ast.Store) and node not in own)
    return any(node.attr == name for node in stored)


def _held_by_library(source: ScriptSource) -> Iterator[CountNeverReset]:
    """A metric in a library's module that each validation updates and reads at its end, but that nothing resets or
    creates again."""
    if source.library is None or (source.epochs or 2) < 2:
        return
    resets = [node for node in source.nodes(ast.Attribute) if node.attr == "reset"]
    if any(isinstance(node.value, ast.Name) and node.value.id != "self" for node in resets):
        return  # a loop over metrics may reset this one
    reset = {last_name(node.value) for node in resets}
    for owner in source.nodes(ast.ClassDef):
        methods = {part.name: part for part in owner.body if isinstance(part, ast.FunctionDef)}
        step, end = methods.get("validation_step"), methods.get("on_validation_epoch_end")
        holder = next((one for one in reached_values(source.names) if type(one).__name__ == owner.name), None)
        if step is None or end is None or holder is None:
            continue
        repeated = [method for key, method in methods.items() if key not in (*_ONCE, "validation_step")]
        for name in dict.fromkeys(name for name, call in _called_of_own(step) if call in _ADDED):
            metric = getattr(holder, name, None)
            reads = {call for its, call in _called_of_own(end) if its == name}
            if not reads or not callable(getattr(metric, "reset", None)) or name in reset:
                continue
            if _resets_itself(source, metric, reads) or any(_gives(method, name) for method in repeated):
                continue
            if _is_logged_whole(source, name):
                continue
            yield CountNeverReset(
                step.lineno,
                f"`self.{name}` is updated in each validation and read in `on_validation_epoch_end`, but nothing calls "
                "its `reset()`: its result is that of all epochs so far",
                f"call `self.{name}.reset()` at the end of `on_validation_epoch_end`",
            )


_ADDED = ("update", "add", "add_batch", "accumulate")


def _gives(method: ast.FunctionDef, name: str) -> bool:
    """Whether a method assigns to an attribute, alone or in a tuple."""
    targets = (target for node in nodes_in(method, ast.Assign) for target in node.targets)
    return any(part.attr == name for part in nodes_in(targets, ast.Attribute))


def _is_logged_whole(source: ScriptSource, name: str) -> bool:
    """Whether the metric itself is logged: the library then resets it."""
    logged = (part for site in source.calls("log", "log_dict") for part in ast.walk(site.node))
    return any(
        isinstance(part, ast.Attribute) and part.attr == name and not isinstance(source.parent(part), ast.Attribute)
        for part in logged
    )


def _called_of_own(method: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """The attributes of `self` whose methods a method calls, each with the called name: `self.metric.compute()`."""
    for node in ast.walk(method):
        holder = receiver_of(node) if isinstance(node, ast.Call) else None
        if isinstance(holder, ast.Attribute) and _is_own(holder):
            yield holder.attr, called(node)


def _resets_itself(source: ScriptSource, metric: object, reads: set[str]) -> bool:
    """Whether one of the metric's methods that are read resets it."""
    kinds = {kind.__name__ for kind in type(metric).__mro__}
    for owner in (node for node in source.nodes(ast.ClassDef) if node.name in kinds):
        for method in (part for part in owner.body if isinstance(part, ast.FunctionDef) and part.name in reads):
            for node in ast.walk(method):
                target = node.targets if isinstance(node, ast.Assign) else []
                if any(map(_is_own, target)) or called(node) in ("reset", "clear", "zero_", "fill_"):
                    return True
    return False


def _is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _sets(method: ast.FunctionDef, name: str) -> bool:
    """Whether a method assigns to an attribute, or calls one of its methods as a statement: `self.n.zero_()`."""
    changed = [target for node in nodes_in(method, ast.Assign) for target in node.targets]
    changed += [node.value.func for node in nodes_in(method, ast.Expr) if isinstance(node.value, ast.Call)]
    parts = nodes_in(changed)
    return any(isinstance(part, ast.Attribute) and part.attr == name for part in parts)
