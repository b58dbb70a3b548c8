"""Copies of the network that a script evaluates, but that no line of it changes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from torch import nn

from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import argument, assigned, called, last_name, nodes_in, receiver_of

_HARMLESS = ("eval", "train", "to", "cpu", "cuda", "float", "double", "requires_grad_", "share_memory")
_COPYING = ("save", "load_state_dict", "deepcopy")
_DEEPEST = 4
_NAMES_OF_BASELINES = ("untrained", "initial", "init", "random", "baseline", "before", "start", "untuned")
"""Words in the name of an untrained network that serves for comparison."""


def evaluated_unchanged(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The names of such copies, and where they are run; not networks that the training loop runs, such as a teacher."""
    source, model = evidence.source, evidence.setup.model
    shapes = {plain(name): tensor.shape for name, tensor in model.named_parameters()}
    if not shapes or not are_untrained(model, {name for name, _ in model.named_parameters()}):
        return  # copies of a pretrained network may serve for comparison
    own = {id(tensor) for tensor in model.parameters()}
    for name, thing in networks_by_name(source):
        tensors = {plain(key): tensor for key, tensor in thing.named_parameters()}
        if {key: t.shape for key, t in tensors.items()} != shapes or any(id(t) in own for t in tensors.values()):
            continue
        runs: list[Site] = []
        if not {*name.lower().split("_")}.isdisjoint(_NAMES_OF_BASELINES):
            continue
        reads = [node for node in reads_of(source, name) if not in_idle_function(source, node)]
        if _stored_once(source, name) and _runs_only(source, reads, runs):
            yield name, runs[0].where
            return
    yield from _created_each_epoch(source, model)
    yield from _passed_to_library(source, model)


def _created_each_epoch(source: ScriptSource, model: nn.Module) -> Iterator[tuple[str, str]]:
    """Networks of the same class that each epoch creates, and runs without training them."""
    for site in source.calls(type(model).__name__):
        statement = next(source.enclosing(site.node, ast.stmt), None)
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if site.often != "epoch" or not isinstance(target, ast.Name) or not source.loops_of(site.node):
            continue
        runs: list[Site] = []
        reads = list(reads_of(source, target.id, source.scope_of(site.node)))
        if _runs_only(source, reads, runs):
            yield target.id, runs[0].where
            return


def _passed_to_library(source: ScriptSource, model: nn.Module) -> Iterator[tuple[str, str]]:
    """New networks of the same class that the script passes to a library's evaluation, in place of the trained one."""
    fitted = [argument(site.node, 0, "model") for site in source.calls("fit")]
    trained = {ast.unparse(network) for network in fitted if network is not None}
    for site in source.calls("validate", "test", "predict") if source.library is not None else ():
        network = argument(site.node, 0, "model")
        if network is None or argument(site.node, 9, "ckpt_path") is not None or ast.unparse(network) in trained:
            continue
        values = [network]
        if isinstance(network, ast.Name):
            scope = source.scope_of(site.node)
            values = [
                node.value
                for node in nodes_in(scope, ast.Assign)
                if [ast.unparse(target) for target in node.targets] == [network.id]
            ]
            if any(
                isinstance(outer := source.parent(node), ast.Attribute) and outer.attr == "load_state_dict"
                for node in reads_of(source, network.id, scope)
            ):
                continue
        kind = type(model).__name__
        new = bool(values) and all(isinstance(node, ast.Call) and called(node) == kind for node in values)
        if new and source.value(network) is not model:
            yield ast.unparse(network), site.where
            return


def _runs_only(source: ScriptSource, reads: list[ast.expr], runs: list[Site]) -> bool:
    """Whether these reads run a network, outside of batches, and nothing changes its weights; appends its calls to
    `runs`."""
    harmless = all(is_harmless(source, node, runs, _DEEPEST) for node in reads)
    return harmless and bool(runs) and all(run.often != "batch" for run in runs)


def in_idle_function(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a node is in a function or a method that neither the script nor a library calls, such as the update of
    an average that the script forgets."""
    function = source.function_of(node)
    if not isinstance(function, ast.FunctionDef):
        return False
    owner = source.parent(function)
    constants = source.nodes(ast.Constant)
    by_name = any(part.value == function.name for part in constants)  # getattr(callback, name)
    if function.name.startswith("__") or by_name:
        return False
    if not isinstance(owner, ast.ClassDef):
        return not (function.decorator_list or source.was_running(function) or source.mentions(function.name))
    bases = [source.value(base) for base in owner.bases]
    if any(base is None or hasattr(base, function.name) for base in bases):
        return False  # a library calls it
    for site in source.calls_of(function):
        thing = source.value(receiver_of(site.node))
        if thing is None or owner.name in [kind.__name__ for kind in type(thing).__mro__]:
            return False
    return True


def plain(name: str) -> str:
    """A parameter's name without the prefixes of averages and wrappers."""
    return name.removeprefix("_orig_mod.").removeprefix("module.").removeprefix("module.").removeprefix("_orig_mod.")


def networks_by_name(source: ScriptSource) -> Iterator[tuple[str, nn.Module]]:
    """The networks in variables of the running functions, and in attributes of the user's objects."""
    for name, value in list(source.names.items()):
        values: list[tuple[str, Any]] = [(name, value)]
        if type(value).__module__ == "__main__" and hasattr(value, "__dict__") and not isinstance(value, nn.Module):
            values += vars(value).items()
        yield from ((key, network) for key, network in values if isinstance(network, nn.Module))


def _stored_once(source: ScriptSource, name: str) -> bool:
    """Whether the name is assigned in one place, outside of loops; an assignment of a function that returns the same
    name, `ema = fit(model)`, does not count."""
    stores = [
        node
        for node in source.nodes()
        if isinstance(node, ast.Name | ast.Attribute) and last_name(node) == name and isinstance(node.ctx, ast.Store)
    ]
    first = [node for node in stores if not _is_returned(source, source.parent(node), name)]
    return len(first) == 1 and not any(map(source.loops_of, stores))


def _is_returned(source: ScriptSource, statement: ast.AST | None, name: str) -> bool:
    """Whether an assigned value comes from a function of the script that returns a variable of this name."""
    call = statement.value if isinstance(statement, ast.Assign) else None
    returned = [
        node.value for node in nodes_in(source.functions_of(call) if isinstance(call, ast.Call) else (), ast.Return)
    ]
    return any(isinstance(value, ast.Name) and value.id == name for value in returned)


def reads_of(source: ScriptSource, name: str, within: ast.AST | None = None) -> Iterator[ast.expr]:
    """The reads of a variable or an attribute of this name: in one function, or in all functions that have no parameter
    of this name."""
    for node in source.nodes() if within is None else ast.walk(within):
        if isinstance(node, ast.Name | ast.Attribute) and last_name(node) == name and isinstance(node.ctx, ast.Load):
            function = source.function_of(node)
            arguments = function.args if function is not None else None
            parameters = [] if arguments is None else [*arguments.args, *arguments.kwonlyargs]
            own = name in [part.arg for part in parameters]
            if within is not None or isinstance(node, ast.Attribute) or not own:
                yield node


def is_harmless(source: ScriptSource, node: ast.expr, runs: list[Site], depth: int) -> bool:
    """Whether a use of a network does not change its weights; appends it to `runs` if it runs the network."""
    outer = source.parent(node)
    if isinstance(outer, ast.Attribute):
        if outer.attr == "module":
            return is_harmless(source, outer, runs, depth)
        call = source.parent(outer)
        if outer.attr == "parameters" and call is not None:
            return _only_freezes(source.parent(call)) or _are_clipped(source, call)
        if outer.attr == "state_dict" and call is not None:  # its tensors share the network's memory
            taker = source.parent(call)
            taker = source.parent(taker) if isinstance(taker, ast.Dict) else taker
            return isinstance(taker, ast.Call) and called(taker) in _COPYING
        if outer.attr == "load_state_dict" and isinstance(call, ast.Call) and call.args:
            return _is_own_state(source, node, call.args[0])
        return outer.attr in _HARMLESS and isinstance(call, ast.Call)
    if isinstance(outer, ast.If | ast.BoolOp | ast.Compare | ast.UnaryOp):
        return True
    if isinstance(outer, ast.Return):  # up to there, the network is unchanged
        return depth == _DEEPEST and not source.loops_of(outer)
    if isinstance(outer, ast.keyword):
        outer = source.parent(outer)
    if not isinstance(outer, ast.Call):
        return False
    if outer.func is node:
        runs.append(source.site(outer))
        return True
    if called(outer) == "update_bn":
        return True
    functions = source.functions_of(outer) if depth else []
    for function in functions:
        parameter = source.parameter_of(function, outer, node)
        uses = reads_of(source, parameter, function)
        if not parameter or not all(is_harmless(source, use, runs, depth - 1) for use in uses):
            return False
    return bool(functions)


def _is_own_state(source: ScriptSource, network: ast.expr, state: ast.expr) -> bool:
    """Whether a variable holds only earlier states of the network itself, such as its best one."""
    name, own = ast.unparse(state), f"{ast.unparse(network)}.state_dict()"
    statements = ast.walk(source.scope_of(network))
    values = {ast.unparse(v) for part in statements for target, v in assigned(part) if ast.unparse(target) == name}
    values -= {"None"}
    return bool(values) and values <= {own, f"copy.deepcopy({own})", f"deepcopy({own})"}


def _only_freezes(loop: ast.AST | None) -> bool:
    """Whether a node is a loop `for p in net.parameters()` that only sets `requires_grad`."""
    if not isinstance(loop, ast.For):
        return False
    changed: list[ast.expr] = []
    for node in loop.body:
        if isinstance(node, ast.Assign):
            changed.append(node.targets[0])
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            changed.append(node.value.func)
    names = [part.attr.removesuffix("_") for part in changed if isinstance(part, ast.Attribute)]
    return len(names) == len(loop.body) and set(names) == {"requires_grad"}


def _are_clipped(source: ScriptSource, parameters: ast.AST) -> bool:
    """Whether parameters are passed to a function that clips gradients."""
    statement = next(source.enclosing(parameters, ast.stmt), None)
    value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    return value is not None and called(value) in ("clip_grad_norm_", "clip_grad_value_")
